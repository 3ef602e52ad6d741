"""The digits that come with scikit-learn, as the other examples use them."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

x, y = load_digits(return_X_y=True)
x = (x / 16).astype(np.float32)
x_train, x_test, y_train, y_test = train_test_split(x, y, train_size=500, random_state=0)
train, test = (x_train, y_train), (x_test, y_test)
