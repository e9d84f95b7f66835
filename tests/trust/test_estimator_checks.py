"""scikit-learn's estimator checks on every exported detector of tables, found by discovery."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from tiny_detectors import detector_classes, tiny

LEAVES_OUT = (
    "the check wants the contamination among the training samples scored as new ones; the threshold leaves each out "
    "of its own neighbours, as that of LocalOutlierFactor does, which the check exempts"
)
REASONS = {
    "RandomScore": "its score is random: it depends on the position of a row in X, not on the row",
    "CalibratedDetector": "what X may be is for its encoder and its detector to say, and its threshold comes from "
    "the half of the training samples that it does not learn from",
    "ArcSineKernelDistance": LEAVES_OUT,
    "KNNDistance": LEAVES_OUT,
}
FAILED = {
    "CalibratedDetector": (
        "check_classifier_data_not_an_array",
        "check_estimator_sparse_array",
        "check_estimator_sparse_matrix",
        "check_n_features_in",
        "check_n_features_in_after_fitting",
        "check_outliers_fit_predict",
        "check_outliers_train",
    ),
    "RandomScore": ("check_methods_subset_invariance", "check_methods_sample_order_invariance"),
    "ArcSineKernelDistance": ("check_outliers_train", "check_outliers_fit_predict"),
    "KNNDistance": ("check_outliers_train", "check_outliers_fit_predict"),
}


def expected_failures(detector):
    name = type(detector).__name__
    return dict.fromkeys(FAILED.get(name, ()), REASONS.get(name, ""))


@pytest.mark.campaign  # the tests of each family run them, too, but for those of a class without such a test
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [tiny(cls) for cls in detector_classes() if "tabular" in cls.modalities],
    expected_failed_checks=expected_failures,
    xfail_strict=False,
)
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)
