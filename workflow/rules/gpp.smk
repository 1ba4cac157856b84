# What the embeddings tell of gross primary production at flux towers, beside what else does.

from pipeline_lib.gpp.methods import baselines, has_indices, regressed_inputs


def tower_files(folder):
    return {tower: out(f"gpp/{folder}/{tower}.csv") for tower in TOWERS}


def flux_files(wildcards):
    if C.demo:
        return expand(f"{FLUXNET}/{TOWER_FILE}", tower=TOWERS)
    return sorted(str(p) for tower in TOWERS for p in Path(FLUXNET).rglob(f"*{tower}*"))


def footprints():
    """The rasters of the towers' footprints."""
    return [str(tower.footprint) for tower in TOWERS.values() if tower.footprint]


def flux_towers():
    """The part of the config that the measured GPP depends on."""
    block = C.gpp.model_copy(update={"fluxnet": FLUXNET})
    towers = {"__all__": {"name", "lon", "lat", "vegetation"}}
    kept = {"fluxnet": True, "towers": towers, "period": True, "fluxes": True}
    return block.model_dump(mode="json", include=kept)


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
    days = C.gpp.windows.length_days
    return {
        **{
            f"{inputs}-transformer": out(f"gpp/transformer/{inputs}-{days}.csv")
            for inputs in regressed_inputs(weather=bool(C.gpp.fluxes.weather))
        },
        **{
            name: out(f"gpp/baselines/{name}.csv")
            for name in baselines(indices=indices)
        },
    }


def gpp_lengths():
    """Inputs -> length of a window -> file of the regressor's predictions."""
    others = C.gpp.windows.other_lengths_days
    lengths = [C.gpp.windows.length_days, *others]
    return {
        inputs: {days: out(f"gpp/transformer/{inputs}-{days}.csv") for days in lengths}
        for inputs in ("embedding", "bands")
        if others
    }


if TOWERS:

    rule gpp_targets:
        input:
            flux_files,
        output:
            list(tower_files("targets").values()),
            sites=out("gpp/sites.csv"),
        log:
            out("logs/gpp_targets.log"),
        benchmark:
            out("benchmarks/gpp_targets.tsv")
        resources:
            mem_mb=retry_memory(1000),
            runtime=10,
        params:
            gpp=flux_towers(),
            targets=tower_files("targets"),
            code=code_of("gpp_targets"),
        message:
            "Reading the fluxes of the towers"
        script:
            f"{SCRIPTS}/gpp_targets.py"

    rule gpp_series:
        input:
            out("embeddings/{tower}/manifest.json"),
            [cube_file(s, "{tower}") for s in C.sensors if s != REFERENCE],
            lambda w: TOWERS[w.tower].footprint or [],
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
            period=plain(C.gpp.period),
            series=plain(C.gpp.series),
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
            [cube_file("{sensor}", tower) for tower in TOWERS],
            footprints(),
        output:
            list(tower_files("series/{sensor}").values()),
        log:
            out("logs/gpp_bands/{sensor}.log"),
        benchmark:
            out("benchmarks/gpp_bands/{sensor}.tsv")
        resources:
            mem_mb=retry_memory(2000),
            runtime=10,
        params:
            towers={name: plain(tower) for name, tower in TOWERS.items()},
            period=plain(C.gpp.period),
            series=plain(C.gpp.series),
            cubes=lambda w: {tower: cube_file(w.sensor, tower) for tower in TOWERS},
            outputs=lambda w: tower_files(f"series/{w.sensor}"),
            rolling_mean=lambda w: C.sensors[w.sensor].rolling_mean,
            code=code_of("gpp_bands"),
        message:
            "Averaging the {wildcards.sensor} bands around the towers"
        script:
            f"{SCRIPTS}/gpp_bands.py"

    rule gpp_transformer:
        input:
            targets=list(tower_files("targets").values()),
            sites=rules.gpp_targets.output.sites,
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
            windows=plain(C.gpp.windows),
            regressor=plain(C.gpp.regressor),
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
            sites=rules.gpp_targets.output.sites,
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
            windows=plain(C.gpp.windows),
            seeds=C.gpp.regressor.seeds,
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
            sites=rules.gpp_targets.output.sites,
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
            windows=plain(C.gpp.windows),
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
