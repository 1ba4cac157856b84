# What the embeddings tell of gross primary production at flux towers, beside what else does.

from pipeline_lib.gpp.methods import baselines, has_indices, regressed_inputs

# What every step from the reading of days on depends on.
GPP_DAYS = {"towers", "period", "min_quality", "min_good_days", "weather"}
GPP_WINDOWS = GPP_DAYS | {"window_days", "stride_days", "validation_years"}


def gpp_keys(names):
    """Keys of the GPP block, as what Snakemake can compare and hand to a script."""
    return C.gpp.model_dump(mode="json", include=set(names))


def tower_files(folder):
    return {tower: out(f"gpp/{folder}/{tower}.csv") for tower in TOWERS}


def flux_files(wildcards):
    if C.demo:
        return f"{FLUXNET}/{TOWER_FILE}"
    return sorted(str(path) for path in Path(FLUXNET).rglob(f"*{wildcards.tower}*"))


def footprint_of(wildcards):
    """The raster of a tower's footprint, if it has one."""
    raster = TOWERS[wildcards.tower].footprint
    return [str(raster)] if raster else []


def tower_series():
    """Source -> tower -> its daily series."""
    return {
        source: tower_files(f"series/{source}") for source in ["embedding", *C.sensors]
    }


def series_files():
    return [path for files in tower_series().values() for path in files.values()]


def gpp_methods():
    """Method -> file of its predictions."""
    indices = any(has_indices(sensor.bands) for sensor in C.sensors.values())
    days = C.gpp.window_days
    return {
        **{
            f"{inputs}-transformer": out(f"gpp/transformer/{inputs}-{days}.csv")
            for inputs in regressed_inputs(weather=bool(C.gpp.weather))
        },
        **{
            name: out(f"gpp/baselines/{name}.csv")
            for name in baselines(indices=indices)
        },
    }


def gpp_lengths():
    """Inputs -> length of a window -> file of the regressor's predictions."""
    lengths = [C.gpp.window_days, *C.gpp.other_window_days]
    return {
        inputs: {days: out(f"gpp/transformer/{inputs}-{days}.csv") for days in lengths}
        for inputs in ("embedding", "bands")
        if C.gpp.other_window_days
    }


if TOWERS:

    rule gpp_targets:
        input:
            flux_files,
        output:
            out("gpp/targets/{tower}.csv"),
        log:
            out("logs/gpp_targets/{tower}.log"),
        benchmark:
            out("benchmarks/gpp_targets/{tower}.tsv")
        resources:
            mem_mb=retry_memory(1000),
            runtime=10,
        params:
            tower=lambda w: place_of(TOWERS[w.tower]),
            gpp=gpp_keys(["period", "min_quality", "min_good_days", "weather"]),
            fluxnet=str(FLUXNET),
            code=code_of("gpp_targets"),
        message:
            "Reading the fluxes of {wildcards.tower}"
        script:
            f"{SCRIPTS}/gpp_targets.py"

    rule gpp_sites:
        input:
            list(tower_files("targets").values()),
        output:
            out("gpp/sites.csv"),
        log:
            out("logs/gpp_sites.log"),
        benchmark:
            out("benchmarks/gpp_sites.tsv")
        resources:
            mem_mb=retry_memory(1000),
            runtime=10,
        params:
            gpp=gpp_keys(["towers", "period", "min_quality", "min_good_days"]),
            targets=tower_files("targets"),
            code=code_of("gpp_sites"),
        message:
            "Choosing the towers that GPP is compared at"
        script:
            f"{SCRIPTS}/gpp_sites.py"

    rule gpp_series:
        input:
            out("embeddings/{tower}/manifest.json"),
            [cube_file(s, "{tower}") for s in C.sensors if s != REFERENCE],
            footprint_of,
        output:
            out("gpp/series/embedding/{tower}.csv"),
        log:
            out("logs/gpp_series/{tower}.log"),
        benchmark:
            out("benchmarks/gpp_series/{tower}.tsv")
        resources:
            mem_mb=retry_memory(2000),
            runtime=10,
        params:
            tower=lambda w: plain(TOWERS[w.tower]),
            gpp=gpp_keys(["period", "footprint_radius_m", "max_gap_days", "smoothing"]),
            embedding=out("embeddings/{tower}"),
            reference=REFERENCE,
            cubes=lambda w: {
                s: cube_file(s, w.tower) for s in C.sensors if s != REFERENCE
            },
            sensors={name: plain(sensor) for name, sensor in C.sensors.items()},
            context=plain(C.context),
            code=code_of("gpp_series"),
        message:
            "Averaging the embeddings around {wildcards.tower}"
        script:
            f"{SCRIPTS}/gpp_series.py"

    rule gpp_bands:
        input:
            lambda w: cube_file(w.sensor, w.tower),
            footprint_of,
        output:
            out("gpp/series/{sensor}/{tower}.csv"),
        log:
            out("logs/gpp_bands/{sensor}/{tower}.log"),
        benchmark:
            out("benchmarks/gpp_bands/{sensor}/{tower}.tsv")
        resources:
            mem_mb=retry_memory(2000),
            runtime=10,
        params:
            tower=lambda w: plain(TOWERS[w.tower]),
            gpp=gpp_keys(["period", "footprint_radius_m", "max_gap_days", "smoothing"]),
            rolling_mean=lambda w: C.sensors[w.sensor].rolling_mean,
            code=code_of("gpp_bands"),
        message:
            "Averaging the {wildcards.sensor} bands around {wildcards.tower}"
        script:
            f"{SCRIPTS}/gpp_bands.py"

    rule gpp_transformer:
        input:
            targets=list(tower_files("targets").values()),
            series=series_files(),
        output:
            out("gpp/transformer/{inputs}-{days}.csv"),
        log:
            out("logs/gpp_transformer/{inputs}-{days}.log"),
        benchmark:
            out("benchmarks/gpp_transformer/{inputs}-{days}.tsv")
        resources:
            mem_mb=retry_memory(4000),
            runtime=12 * 60,
        params:
            gpp=gpp_keys(GPP_WINDOWS | {"regressor"}),
            targets=tower_files("targets"),
            series=tower_series(),
            state=out("state/gpp/{inputs}-{days}"),
            seed=C.seed,
            code=code_of("gpp_transformer"),
        message:
            "Regressing GPP on {wildcards.inputs}, windows of {wildcards.days} days"
        script:
            f"{SCRIPTS}/gpp_transformer.py"

    rule gpp_baselines:
        input:
            targets=list(tower_files("targets").values()),
            series=series_files(),
        output:
            [path for path in gpp_methods().values() if "/baselines/" in path],
        log:
            out("logs/gpp_baselines.log"),
        benchmark:
            out("benchmarks/gpp_baselines.tsv")
        resources:
            mem_mb=retry_memory(4000),
            runtime=60,
        params:
            gpp=gpp_keys(GPP_WINDOWS)
            | {"regressor": C.gpp.regressor.model_dump(include={"seeds"})},
            targets=tower_files("targets"),
            series=tower_series(),
            folder=out("gpp/baselines"),
            seed=C.seed,
            code=code_of("gpp_baselines"),
        message:
            "Predicting GPP by the baselines"
        script:
            f"{SCRIPTS}/gpp_baselines.py"

    rule gpp_scores:
        input:
            targets=list(tower_files("targets").values()),
            series=series_files(),
            methods=list(gpp_methods().values()),
            lengths=[
                path for files in gpp_lengths().values() for path in files.values()
            ],
        output:
            metrics=out("gpp/metrics.json"),
            predictions=out("gpp/predictions.csv"),
        log:
            out("logs/gpp_scores.log"),
        benchmark:
            out("benchmarks/gpp_scores.tsv")
        resources:
            mem_mb=retry_memory(2000),
            runtime=10,
        params:
            gpp=gpp_keys(GPP_WINDOWS),
            targets=tower_files("targets"),
            series=tower_series(),
            methods=gpp_methods(),
            lengths=gpp_lengths(),
            seed=C.seed,
            code=code_of("gpp_scores"),
        message:
            "Scoring what GPP is predicted from"
        script:
            f"{SCRIPTS}/gpp_scores.py"
