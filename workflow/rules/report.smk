# Figures, and the one page that shows them.

EVALUATE = library_digest(["cubes", "evaluate"])


def shown_cube(sensor):
    """The cube that stands for a sensor in the report: the first that is embedded."""
    return next(cube for cube in cubes_of(sensor) if cube in embedded_cubes())


def optical_sensors():
    return [name for name, sensor in C.sensors.items() if sensor.rgb]


def radar_sensors():
    return [name for name, s in C.sensors.items() if s.quantity == "backscatter"]


rule figure_sites:
    input:
        lambda w: checkpoints.sample_sites.get().output[0],
    output:
        f"{RUN}/figures/sites.png",
    log:
        f"{RUN}/logs/figure_sites.log",
    benchmark:
        f"{RUN}/benchmarks/figure_sites.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        sites=C.sites and C.sites.model_dump(mode="json", include={"strata", "bounds"}),
        towers=[plain(tower) for tower in TOWERS.values()],
        code=EVALUATE,
    message:
        "Drawing the map of the sites"
    script:
        f"{SCRIPTS}/figure_sites.py"


rule figure_optical:
    input:
        lambda w: cube_file(w.sensor, shown_cube(w.sensor)),
    output:
        f"{RUN}/figures/optical-{{sensor}}.png",
    log:
        f"{RUN}/logs/figure_optical/{{sensor}}.log",
    benchmark:
        f"{RUN}/benchmarks/figure_optical/{{sensor}}.tsv"
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        rgb=lambda w: C.sensors[w.sensor].rgb,
        code=EVALUATE,
    message:
        "Drawing a strip of the {wildcards.sensor} cube"
    script:
        f"{SCRIPTS}/figure_optical.py"


rule figure_radar:
    input:
        lambda w: cube_file(w.sensor, shown_cube(w.sensor)),
    output:
        f"{RUN}/figures/radar-{{sensor}}.png",
    log:
        f"{RUN}/logs/figure_radar/{{sensor}}.log",
    benchmark:
        f"{RUN}/benchmarks/figure_radar/{{sensor}}.tsv"
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        code=EVALUATE,
    message:
        "Drawing a strip of the {wildcards.sensor} cube"
    script:
        f"{SCRIPTS}/figure_radar.py"


rule figure_curves:
    input:
        [f"{RUN}/models/{name}/curves.csv" for name in TRAINED],
    output:
        f"{RUN}/figures/curves.png",
    log:
        f"{RUN}/logs/figure_curves.log",
    benchmark:
        f"{RUN}/benchmarks/figure_curves.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        names=TRAINED,
        code=EVALUATE,
    message:
        "Drawing the loss curves"
    script:
        f"{SCRIPTS}/figure_curves.py"


rule figure_gpp:
    input:
        predictions=f"{RUN}/gpp/predictions.csv",
        targets=list(tower_files("targets").values()),
    output:
        f"{RUN}/figures/gpp.png",
    log:
        f"{RUN}/logs/figure_gpp.log",
    benchmark:
        f"{RUN}/benchmarks/figure_gpp.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        gpp=C.gpp
        and C.gpp.model_dump(
            mode="json", include={"towers", "period", "validation_years"}
        ),
        targets=tower_files("targets"),
        code=library_digest(["evaluate", "gpp"]),
    message:
        "Drawing GPP by site"
    script:
        f"{SCRIPTS}/figure_gpp.py"


rule figure_probes:
    input:
        f"{RUN}/evaluation/probes-{{model}}.json",
    output:
        f"{RUN}/figures/probes-{{model}}.png",
    log:
        f"{RUN}/logs/figure_probes/{{model}}.log",
    benchmark:
        f"{RUN}/benchmarks/figure_probes/{{model}}.tsv"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=EVALUATE,
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
        f"{RUN}/figures/pca.png",
    log:
        f"{RUN}/logs/figure_pca.log",
    benchmark:
        f"{RUN}/benchmarks/figure_pca.tsv"
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        rgb=C.sensors[REFERENCE].rgb,
        seed=C.seed,
        code=library_digest(["cubes", "embed", "evaluate"]),
    message:
        "Drawing the PCA maps"
    script:
        f"{SCRIPTS}/figure_pca.py"


rule figure_dates:
    input:
        manifests=embeddings(),
        cubes=[cube_file(REFERENCE, cube) for cube in embedded_cubes()],
    output:
        f"{RUN}/figures/dates.png",
    log:
        f"{RUN}/logs/figure_dates.log",
    benchmark:
        f"{RUN}/benchmarks/figure_dates.tsv"
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        rgb=C.sensors[REFERENCE].rgb,
        code=library_digest(["cubes", "embed", "evaluate"]),
    message:
        "Drawing four dates of one cube"
    script:
        f"{SCRIPTS}/figure_dates.py"


def figures():
    """Every figure that this config can have, by name."""
    found = {"sites": f"{RUN}/figures/sites.png"} if C.sites else {}
    found |= {
        f"optical-{s}": f"{RUN}/figures/optical-{s}.png" for s in optical_sensors()
    }
    found |= {f"radar-{s}": f"{RUN}/figures/radar-{s}.png" for s in radar_sensors()}
    found |= {f"probes-{m}": f"{RUN}/figures/probes-{m}.png" for m in TRAINED}
    found |= {name: f"{RUN}/figures/{name}.png" for name in ("curves", "dates", "pca")}
    return found | ({"gpp": f"{RUN}/figures/gpp.png"} if TOWERS else {})


rule report:
    input:
        figures=list(figures().values()),
        cubes=[
            cube_file(sensor, cube)
            for sensor in C.sensors
            for cube in cubes_of(sensor)
        ],
        encoders=[f"{RUN}/evaluation/{sensor}.json" for sensor in C.sensors],
        fusion=rules.evaluate_fusion.output[0],
        probes=[f"{RUN}/evaluation/probes-{model}.json" for model in TRAINED],
        embeddings=embeddings(),
        gpp=f"{RUN}/gpp/metrics.json" if TOWERS else [],
    output:
        f"{RUN}/report.html",
    log:
        f"{RUN}/logs/report.log",
    benchmark:
        f"{RUN}/benchmarks/report.tsv"
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        config=plain(C),
        figures=figures(),
        code=library_digest(["cubes", "embed", "evaluate"]),
    message:
        "Writing the report"
    script:
        f"{SCRIPTS}/report.py"
