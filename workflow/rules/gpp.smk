# How well GPP at flux towers is predicted from embeddings, and from baselines.

from pipeline_lib.gpp.days import sources_of
from pipeline_lib.gpp.methods import TRANSFORMER, WEATHER, experiments, has_indices

GPP_SENSORS = {} if TABLES_ALONE else C.sensors
GPP_FEATURES = C.gpp.features if C.gpp else {}
OTHER_SENSORS = [sensor for sensor in C.sensors if sensor != REFERENCE]


if TOWERS:
    GPP_TABLES = [
        out("gpp/sites.csv"),
        *per_tower("targets/{tower}.csv"),
        *(
            file
            for source in sources_of(GPP_SENSORS, GPP_FEATURES)
            for file in per_tower(f"series/{source}/{{tower}}.csv")
        ),
    ]
    GPP_PREDICTIONS = {
        out(f"gpp/{experiment.file}"): experiment.regressor
        for experiment in experiments(
            C.gpp.windows,
            weather=bool(C.gpp.fluxes.weather) or WEATHER in GPP_FEATURES,
            indices=any(has_indices(sensor.bands) for sensor in GPP_SENSORS.values())
            or any(table.red for table in GPP_FEATURES.values()),
            cubes=bool(GPP_SENSORS),
            tables=list(GPP_FEATURES),
        )
    }
    FOOTPRINTS = [str(t.footprint) for t in TOWERS.values() if t.footprint]

    rule gpp_targets:
        input:
            flux_files(),
        output:
            out("gpp/sites.csv"),
            per_tower("targets/{tower}.csv"),
        log:
            out("logs/gpp_targets.log"),
        benchmark:
            out("benchmarks/gpp_targets.tsv")
        resources:
            mem_mb=retry_memory(1000),
            runtime=10,
        params:
            gpp=flux_towers(),
            folder=subpath(output[0], parent=True),
            code=code_of("gpp_targets"),
        message:
            "Reading the fluxes of the towers"
        script:
            f"{SCRIPTS}/gpp_targets.py"

    if not TABLES_ALONE:

        rule gpp_series:
            input:
                [out(f"embeddings/{tower}/manifest.json") for tower in TOWERS],
                [cube_file(s, tower) for s in OTHER_SENSORS for tower in TOWERS],
                FOOTPRINTS,
            output:
                per_tower("series/embedding/{tower}.csv"),
            log:
                out("logs/gpp_series.log"),
            benchmark:
                out("benchmarks/gpp_series.tsv")
            resources:
                mem_mb=retry_memory(2000),
                runtime=30,
            params:
                towers=[plain(tower) for tower in TOWERS.values()],
                period=plain(C.gpp.period),
                series=plain(C.gpp.series),
                embeddings={tower: out(f"embeddings/{tower}") for tower in TOWERS},
                reference=REFERENCE,
                cubes={s: {t: cube_file(s, t) for t in TOWERS} for s in OTHER_SENSORS},
                sensors={name: plain(sensor) for name, sensor in C.sensors.items()},
                context=plain(C.context),
                folder=subpath(output[0], parent=True),
                code=code_of("gpp_series"),
            message:
                "Averaging the embeddings around the towers"
            script:
                f"{SCRIPTS}/gpp_series.py"

        rule gpp_bands:
            input:
                [cube_file("{sensor}", tower) for tower in TOWERS],
                FOOTPRINTS,
            output:
                per_tower("series/{sensor}/{tower}.csv"),
            log:
                out("logs/gpp_bands/{sensor}.log"),
            benchmark:
                out("benchmarks/gpp_bands/{sensor}.tsv")
            resources:
                mem_mb=retry_memory(2000),
                runtime=30,
            params:
                towers=[plain(tower) for tower in TOWERS.values()],
                period=plain(C.gpp.period),
                series=plain(C.gpp.series),
                cubes=lambda w: {tower: cube_file(w.sensor, tower) for tower in TOWERS},
                rolling_mean=lambda w: C.sensors[w.sensor].rolling_mean,
                folder=subpath(output[0], parent=True),
                code=code_of("gpp_bands"),
            message:
                "Averaging the {wildcards.sensor} bands around the towers"
            script:
                f"{SCRIPTS}/gpp_bands.py"

    rule gpp_features:
        input:
            lambda w: list(files_of_table(w.table)),
        output:
            per_tower("series/{table}/{tower}.csv"),
        log:
            out("logs/gpp_features/{table}.log"),
        benchmark:
            out("benchmarks/gpp_features/{table}.tsv")
        resources:
            mem_mb=retry_memory(2000),
            runtime=30,
        params:
            table=lambda w: plain(GPP_FEATURES[w.table]),
            towers=[place_of(tower) for tower in TOWERS.values()],
            period=plain(C.gpp.period),
            series=plain(C.gpp.series),
            folder=subpath(output[0], parent=True),
            code=code_of("gpp_features"),
        message:
            "Reading the features {wildcards.table} at the towers"
        script:
            f"{SCRIPTS}/gpp_features.py"

    rule gpp_transformer:
        input:
            GPP_TABLES,
        output:
            [file for file, model in GPP_PREDICTIONS.items() if model == TRANSFORMER],
        log:
            out("logs/gpp_transformer.log"),
        benchmark:
            out("benchmarks/gpp_transformer.tsv")
        threads: 4
        resources:
            mem_mb=retry_memory(6000),
            runtime=24 * 60,
        params:
            folder=subpath(output[0], ancestor=2),
            sensors=list(GPP_SENSORS),
            tables=list(GPP_FEATURES),
            windows=plain(C.gpp.windows),
            regressor=plain(C.gpp.regressor),
            seed=C.seed,
            state=out("state/gpp"),
            code=code_of("gpp_transformer"),
        message:
            "Fitting the transformer to windows of days"
        script:
            f"{SCRIPTS}/gpp_transformer.py"

    rule gpp_baselines:
        input:
            GPP_TABLES,
        output:
            [file for file, model in GPP_PREDICTIONS.items() if model != TRANSFORMER],
        log:
            out("logs/gpp_baselines.log"),
        benchmark:
            out("benchmarks/gpp_baselines.tsv")
        resources:
            mem_mb=retry_memory(4000),
            runtime=60,
        params:
            folder=subpath(output[0], ancestor=2),
            sensors=list(GPP_SENSORS),
            tables=list(GPP_FEATURES),
            windows=plain(C.gpp.windows),
            fits=C.gpp.regressor.seeds,
            seed=C.seed,
            code=code_of("gpp_baselines"),
        message:
            "Predicting GPP by the baselines"
        script:
            f"{SCRIPTS}/gpp_baselines.py"

    rule gpp_scores:
        input:
            GPP_TABLES,
            list(GPP_PREDICTIONS),
        output:
            out("gpp/metrics.json"),
            out("gpp/predictions.csv"),
        log:
            out("logs/gpp_scores.log"),
        benchmark:
            out("benchmarks/gpp_scores.tsv")
        resources:
            mem_mb=retry_memory(2000),
            runtime=10,
        params:
            folder=subpath(output[0], parent=True),
            sensors=list(GPP_SENSORS),
            tables=list(GPP_FEATURES),
            windows=plain(C.gpp.windows),
            seed=C.seed,
            code=code_of("gpp_scores"),
        message:
            "Scoring the predictions of GPP"
        script:
            f"{SCRIPTS}/gpp_scores.py"
