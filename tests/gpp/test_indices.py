import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.gpp.indices import vegetation_indices

REFLECTANCE = st.floats(0.01, 0.9)


@given(REFLECTANCE, REFLECTANCE)
def test_indices_equal_their_formulas(red, near):
    found = vegetation_indices(red=np.array([red]), near_infrared=np.array([near]))
    ndvi = (near - red) / (near + red)
    np.testing.assert_allclose(found["NIRv"], ndvi * near, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["kNDVI"], np.tanh(ndvi**2), rtol=1e-9, atol=1e-12)


def test_missing_reflectance_gives_missing_indices():
    found = vegetation_indices(red=np.array([np.nan, 0.0]), near_infrared=np.array([0.3, 0.0]))
    assert all(np.isnan(values).all() for values in found.values())
