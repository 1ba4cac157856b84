# Split by site, and the scaling of each sensor.


rule split_sites:
    input:
        sites=site_table,
    output:
        out("dataset/split.csv"),
    log:
        out("logs/split_sites.log"),
    benchmark:
        out("benchmarks/split_sites.tsv")
    # Before the cubes: a split that cannot be trained on is refused before their scenes are read.
    priority: 100
    resources:
        mem_mb=retry_memory(500),
        runtime=5,
    params:
        own=split_rows(),
        split=plain(C.split),
        seed=C.seed,
        code=code_of("split_sites"),
    message:
        "Splitting the sites"
    script:
        f"{SCRIPTS}/split_sites.py"


rule fit_normalisation:
    input:
        cubes=lambda w: [cube_file(w.sensor, cube) for cube in learning_cubes(w.sensor)],
        split=rules.split_sites.output[0],
    output:
        out("dataset/{sensor}/normalisation.json"),
    log:
        out("logs/fit_normalisation/{sensor}.log"),
    benchmark:
        out("benchmarks/fit_normalisation/{sensor}.tsv")
    resources:
        mem_mb=retry_memory(4000),
        runtime=60,
    params:
        bands=lambda w: C.sensors[w.sensor].bands,
        scale=lambda w: C.sensors[w.sensor].scale,
        quantiles=lambda w: C.sensors[w.sensor].quantiles,
        sequence=lambda w: plain(C.sensors[w.sensor].sequence),
        context=plain(C.context),
        code=code_of("fit_normalisation"),
    message:
        "Fitting the scaling of {wildcards.sensor}"
    script:
        f"{SCRIPTS}/fit_normalisation.py"


rule measure_noise:
    input:
        cubes=rules.fit_normalisation.input.cubes,
        split=rules.split_sites.output[0],
        normalisation=rules.fit_normalisation.output[0],
    output:
        out("dataset/{sensor}/noise.json"),
    log:
        out("logs/measure_noise/{sensor}.log"),
    benchmark:
        out("benchmarks/measure_noise/{sensor}.tsv")
    resources:
        mem_mb=retry_memory(2000),
        runtime=60,
    params:
        reach=lambda w: C.sensors[w.sensor].rolling_mean,
        seed=C.seed,
        code=code_of("measure_noise"),
    message:
        "Measuring the noise of {wildcards.sensor}"
    script:
        f"{SCRIPTS}/measure_noise.py"
