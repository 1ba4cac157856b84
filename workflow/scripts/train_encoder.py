"""Train the autoencoder of one sensor."""

from pathlib import Path

from pipeline_lib.config import Context, Sensor, Training
from pipeline_lib.files import digest_of
from pipeline_lib.scripting import job
from pipeline_lib.training import train_encoder

# The further processes of a training import this file.
if __name__ == "__main__":
    with job(snakemake, "training"):
        params = snakemake.params
        train_encoder(
            sensor_name=snakemake.wildcards.sensor,
            sensor=Sensor.model_validate(params.sensor),
            context=Context.model_validate(params.context),
            training=Training.model_validate(snakemake.config["training"] | params.training),
            seed=params.seed,
            cubes=[Path(path) for path in snakemake.input.cubes],
            split_table=Path(snakemake.input.split),
            normalisation=Path(snakemake.input.normalisation),
            noise=Path(snakemake.input.noise),
            state=Path(params.state),
            output=Path(snakemake.output[0]).parent,
            config_digest=digest_of([params.sensor, params.context, params.training, params.seed]),
        )
