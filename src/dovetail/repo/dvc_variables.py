"""The environment variables that DVC sets for a stage's command."""

ENV_ROOT = "DVC_ROOT"  # in a temporary experiment the repository that started it
ENV_STAGE = "DVC_STAGE"
ENV_EXPERIMENT = "DVC_EXP_NAME"
ENV_BASELINE = "DVC_EXP_BASELINE_REV"
