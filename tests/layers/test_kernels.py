"""Image kernels against SciPy's filters and pictures whose answer is known."""

import numpy as np
import pytest
import torch
from scipy import ndimage

import unrolled as ur
from unrolled.layers import KERNELS, filter_picture
from unrolled.layers.kernels import KERNEL_NAMES


@pytest.mark.parametrize("name", KERNELS)
def test_as_scipy_filters(name):
    picture = torch.rand(3, 7, 9, dtype=torch.float64)
    found = filter_picture(picture, name).numpy()
    for channel, wanted in zip(found, picture.numpy(), strict=True):
        kernel = np.array(KERNELS[name])
        np.testing.assert_allclose(
            channel, ndimage.correlate(wanted, kernel, mode="nearest"), atol=1e-12
        )


def test_sobel_is_the_length_of_the_gradient():
    picture = torch.rand(1, 6, 6, dtype=torch.float64)
    across, down = (ndimage.sobel(picture[0].numpy(), axis, mode="nearest") for axis in (1, 0))
    np.testing.assert_allclose(filter_picture(picture, "sobel")[0].numpy(), np.hypot(across, down))


@pytest.mark.parametrize("name", KERNEL_NAMES)
def test_an_even_picture_stays_even_or_has_no_edges(name):
    edges = name == "edge" or name.startswith("sobel")
    found = filter_picture(torch.full((1, 4, 5), 0.5), name)
    torch.testing.assert_close(found, torch.full((1, 4, 5), 0.0 if edges else 0.5))


def test_wrong_input_is_told_in_a_sentence():
    with pytest.raises(ur.InputError, match="no kernel 'swirl'; take identity"):
        filter_picture(torch.ones(1, 3, 3), "swirl")
    with pytest.raises(ur.InputError, match=r"must be \(C, H, W\)"):
        filter_picture(torch.ones(3, 3), "blur")
