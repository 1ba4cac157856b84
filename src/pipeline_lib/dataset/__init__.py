"""Split, normalisation and samples of the training data."""

from pipeline_lib.dataset.inputs import check_inputs, inputs_of
from pipeline_lib.dataset.noise import Noise, measure_noise
from pipeline_lib.dataset.normalisation import (
    Normalisation,
    cube_name,
    cubes_of,
    fit_normalisation,
    from_scale,
    to_scale,
    valid_pixels,
)
from pipeline_lib.dataset.samples import SampleIndex, Samples, SequenceIndex, cut_patches
from pipeline_lib.dataset.split import read_split, read_split_table, split_sites, write_split
from pipeline_lib.dataset.stacks import CubeArrays, load_stack
from pipeline_lib.dataset.windows import closest_frames, window_frames, window_spans
