# Figures, and the one page that shows them.


def shown_cube(sensor):
    """The cube that stands for a sensor in the report: the first that is embedded."""
    return next(cube for cube in cubes_of(sensor) if cube in embedded_cubes())


def optical_sensors():
    return [name for name, sensor in C.sensors.items() if sensor.rgb]


def radar_sensors():
    return [name for name, s in C.sensors.items() if s.quantity == "backscatter"]


rule figure_sites:
    input:
        site_table,
    output:
        out("figures/sites.png"),
    log:
        out("logs/figure_sites.log"),
    benchmark:
        out("benchmarks/figure_sites.tsv")
    resources:
        mem_mb=retry_memory(1000),
        runtime=10,
    params:
        sites=C.sites and C.sites.model_dump(mode="json", include={"strata", "bounds"}),
        towers=[plain(tower) for tower in TOWERS.values()],
        code=code_of("figure_sites"),
    message:
        "Drawing the map of the sites"
    script:
        f"{SCRIPTS}/figure_sites.py"


rule figure_optical:
    input:
        lambda w: cube_file(w.sensor, shown_cube(w.sensor)),
    output:
        out("figures/optical-{sensor}.png"),
    log:
        out("logs/figure_optical/{sensor}.log"),
    benchmark:
        out("benchmarks/figure_optical/{sensor}.tsv")
    resources:
        mem_mb=retry_memory(4000),
        runtime=10,
    params:
        rgb=lambda w: C.sensors[w.sensor].rgb,
        code=code_of("figure_optical"),
    message:
        "Drawing a strip of the {wildcards.sensor} cube"
    script:
        f"{SCRIPTS}/figure_optical.py"


rule figure_radar:
    input:
        lambda w: cube_file(w.sensor, shown_cube(w.sensor)),
    output:
        out("figures/radar-{sensor}.png"),
    log:
        out("logs/figure_radar/{sensor}.log"),
    benchmark:
        out("benchmarks/figure_radar/{sensor}.tsv")
    resources:
        mem_mb=retry_memory(4000),
        runtime=10,
    params:
        code=code_of("figure_radar"),
    message:
        "Drawing a strip of the {wildcards.sensor} cube"
    script:
        f"{SCRIPTS}/figure_radar.py"


rule figure_curves:
    input:
        [out(f"models/{name}/curves.csv") for name in TRAINED],
    output:
        out("figures/curves.png"),
    log:
        out("logs/figure_curves.log"),
    benchmark:
        out("benchmarks/figure_curves.tsv")
    resources:
        mem_mb=retry_memory(1000),
        runtime=10,
    params:
        names=TRAINED,
        code=code_of("figure_curves"),
    message:
        "Drawing the loss curves"
    script:
        f"{SCRIPTS}/figure_curves.py"


rule figure_gpp:
    input:
        out("gpp/metrics.json"),
        out("gpp/predictions.csv"),
        out("gpp/sites.csv"),
        per_tower("targets/{tower}.csv"),
    output:
        out("figures/gpp.png"),
    log:
        out("logs/figure_gpp.log"),
    benchmark:
        out("benchmarks/figure_gpp.tsv")
    resources:
        mem_mb=retry_memory(1000),
        runtime=10,
    params:
        folder=out("gpp"),
        code=code_of("figure_gpp"),
    message:
        "Drawing GPP by day and site"
    script:
        f"{SCRIPTS}/figure_gpp.py"


rule figure_towers:
    input:
        out("gpp/sites.csv"),
        per_tower("series/embedding/{tower}.csv"),
        per_tower("targets/{tower}.csv"),
    output:
        out("figures/towers.png"),
    log:
        out("logs/figure_towers.log"),
    benchmark:
        out("benchmarks/figure_towers.tsv")
    resources:
        mem_mb=retry_memory(1000),
        runtime=10,
    params:
        folder=out("gpp"),
        code=code_of("figure_towers"),
    message:
        "Drawing the embeddings around the towers"
    script:
        f"{SCRIPTS}/figure_towers.py"


rule figure_methods:
    input:
        out("gpp/metrics.json"),
    output:
        out("figures/methods.png"),
    log:
        out("logs/figure_methods.log"),
    benchmark:
        out("benchmarks/figure_methods.tsv")
    resources:
        mem_mb=retry_memory(1000),
        runtime=10,
    params:
        folder=out("gpp"),
        code=code_of("figure_methods"),
    message:
        "Drawing the error of every method"
    script:
        f"{SCRIPTS}/figure_methods.py"


rule figure_points:
    input:
        out("gpp/metrics.json"),
        out("gpp/predictions.csv"),
        list(GPP_PREDICTIONS) if TOWERS else [],
    output:
        out("figures/points.png"),
    log:
        out("logs/figure_points.log"),
    benchmark:
        out("benchmarks/figure_points.tsv")
    resources:
        mem_mb=retry_memory(1000),
        runtime=10,
    params:
        folder=out("gpp"),
        code=code_of("figure_points"),
    message:
        "Drawing predicted against observed GPP"
    script:
        f"{SCRIPTS}/figure_points.py"


rule figure_lengths:
    input:
        out("gpp/metrics.json"),
    output:
        out("figures/lengths.png"),
    log:
        out("logs/figure_lengths.log"),
    benchmark:
        out("benchmarks/figure_lengths.tsv")
    resources:
        mem_mb=retry_memory(1000),
        runtime=10,
    params:
        folder=out("gpp"),
        code=code_of("figure_lengths"),
    message:
        "Drawing the error by window length"
    script:
        f"{SCRIPTS}/figure_lengths.py"


rule figure_probes:
    input:
        out("evaluation/probes-{model}.json"),
    output:
        out("figures/probes-{model}.png"),
    log:
        out("logs/figure_probes/{model}.log"),
    benchmark:
        out("benchmarks/figure_probes/{model}.tsv")
    resources:
        mem_mb=retry_memory(1000),
        runtime=10,
    params:
        code=code_of("figure_probes"),
    message:
        "Drawing the probes of the {wildcards.model} embeddings"
    script:
        f"{SCRIPTS}/figure_probes.py"


rule figure_pca:
    input:
        manifests=embeddings(),
        cubes=[cube_file(REFERENCE, cube) for cube in embedded_cubes()],
        split=rules.split_sites.output[0],
    output:
        out("figures/pca.png"),
    log:
        out("logs/figure_pca.log"),
    benchmark:
        out("benchmarks/figure_pca.tsv")
    resources:
        mem_mb=retry_memory(8000),
        runtime=30,
    params:
        rgb=C.sensors[REFERENCE].rgb,
        seed=C.seed,
        code=code_of("figure_pca"),
    message:
        "Drawing the PCA maps"
    script:
        f"{SCRIPTS}/figure_pca.py"


rule figure_dates:
    input:
        manifests=embeddings(),
        cubes=[cube_file(REFERENCE, cube) for cube in embedded_cubes()],
    output:
        out("figures/dates.png"),
    log:
        out("logs/figure_dates.log"),
    benchmark:
        out("benchmarks/figure_dates.tsv")
    resources:
        mem_mb=retry_memory(4000),
        runtime=10,
    params:
        rgb=C.sensors[REFERENCE].rgb,
        code=code_of("figure_dates"),
    message:
        "Drawing four dates of one cube"
    script:
        f"{SCRIPTS}/figure_dates.py"


def assessed_cubes():
    """The cubes that are both learned from or tested on, and embedded."""
    return [cube for cube in learning_cubes(REFERENCE) if cube in embedded_cubes()]


def files_of_assessed():
    """Their cubes by sensor, the reference first."""
    return {
        sensor: {
            cube: cube_file(sensor, cube)
            for cube in assessed_cubes()
            if cube in cubes_of(sensor)
        }
        for sensor in sorted(C.sensors, key=lambda name: name != REFERENCE)
    }


rule assess_maps:
    input:
        manifests=[out(f"embeddings/{c}/manifest.json") for c in assessed_cubes()],
        cubes=[f for files in files_of_assessed().values() for f in files.values()],
        split=rules.split_sites.output[0],
        truth=sorted(set(truth_of_cubes().values())),
    output:
        out("evaluation/maps.json"),
    log:
        out("logs/assess_maps.log"),
    benchmark:
        out("benchmarks/assess_maps.tsv")
    resources:
        mem_mb=retry_memory(8000),
        runtime=120,
    params:
        cubes=files_of_assessed(),
        truth=truth_of_cubes(),
        seed=C.seed,
        code=code_of("assess_maps"),
    message:
        "Measuring how smooth and how sharp the maps are"
    script:
        f"{SCRIPTS}/assess_maps.py"


rule figure_maps:
    input:
        evaluation=rules.assess_maps.output[0],
        manifests=rules.assess_maps.input.manifests,
        cubes=rules.assess_maps.input.cubes,
        truth=rules.assess_maps.input.truth,
    output:
        out("figures/maps.png"),
    log:
        out("logs/figure_maps.log"),
    benchmark:
        out("benchmarks/figure_maps.tsv")
    resources:
        mem_mb=retry_memory(4000),
        runtime=10,
    params:
        cubes=files_of_assessed(),
        truth=truth_of_cubes(),
        rgb=C.sensors[REFERENCE].rgb,
        code=code_of("figure_maps"),
    message:
        "Drawing how smooth and how sharp the maps are"
    script:
        f"{SCRIPTS}/figure_maps.py"


def figures():
    """Every figure that this config can have, by name."""
    found = {"sites": out("figures/sites.png")} if C.sites else {}
    found |= {
        f"optical-{s}": out(f"figures/optical-{s}.png") for s in optical_sensors()
    }
    found |= {f"radar-{s}": out(f"figures/radar-{s}.png") for s in radar_sensors()}
    found |= {f"probes-{m}": out(f"figures/probes-{m}.png") for m in TRAINED}
    found |= {
        name: out(f"figures/{name}.png") for name in ("curves", "dates", "pca", "maps")
    }
    if TOWERS:
        names = ["gpp", "towers", "methods", "points"]
        names += ["lengths"] if C.gpp.windows.other_lengths_days else []
        found |= {name: out(f"figures/{name}.png") for name in names}
    return found


rule report:
    input:
        figures=list(figures().values()),
        split=rules.split_sites.output[0],
        cubes=[
            cube_file(sensor, cube)
            for sensor in C.sensors
            for cube in cubes_of(sensor)
        ],
        encoders=[out(f"evaluation/{sensor}.json") for sensor in C.sensors],
        fusion=rules.evaluate_fusion.output[0],
        probes=[out(f"evaluation/probes-{model}.json") for model in TRAINED],
        maps=rules.assess_maps.output[0],
        embeddings=embeddings(),
        gpp=out("gpp/metrics.json") if TOWERS else [],
    output:
        out("report.html"),
    log:
        out("logs/report.log"),
    benchmark:
        out("benchmarks/report.tsv")
    resources:
        mem_mb=retry_memory(4000),
        runtime=10,
    params:
        config=plain(C),
        figures=figures(),
        code=code_of("report"),
    message:
        "Writing the report"
    script:
        f"{SCRIPTS}/report.py"
