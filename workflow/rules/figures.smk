# What the figures of a run are, and what each is drawn from.

from typing import NamedTuple


class Figure(NamedTuple):
    """How a figure is made.

    A library function draws it from files, by the name of its argument, and from options. The job
    waits for these files, or for the inputs where they are given.
    """

    stage: str
    draw: str
    files: dict
    options: dict = {}
    inputs: list = []
    memory_mb: int = 1000


def manifests_of(cubes):
    return {cube: out(f"embeddings/{cube}/manifest.json") for cube in cubes}


def shown_cube(sensor):
    """The cube that stands for a sensor in the report: the first that is embedded."""
    return next(cube for cube in cubes_of(sensor) if cube in embedded_cubes())


def site_figures():
    if not C.sites:
        return {}
    options = {
        "fractions": {stratum.name: stratum.fraction for stratum in C.sites.strata},
        "bounds": list(C.sites.bounds),
        "planned": C.sites.file is None,
        "towers": {name: [tower.lon, tower.lat] for name, tower in TOWERS.items()},
    }
    draw = "pipeline_lib.report.site_map.plot_sites"
    return {"sites": Figure("Sites", draw, {"sites": site_table}, options)}


def cube_figures():
    found = {}
    for name, sensor in C.sensors.items():
        files = {"cube": cube_file(name, shown_cube(name))}
        if sensor.rgb:
            draw, options = "optical.plot_optical_strip", {"rgb": list(sensor.rgb)}
            found[f"optical-{name}"] = draw, files, options
        if sensor.quantity == "backscatter":
            found[f"radar-{name}"] = "radar.plot_radar_strip", files, {}
    return {
        name: Figure("Cubes", f"pipeline_lib.report.{draw}", *rest, memory_mb=4000)
        for name, (draw, *rest) in found.items()
    }


def model_figures():
    curves = {model: out(f"models/{model}/curves.csv") for model in C.sensors}
    draw = "pipeline_lib.report.curves.plot_curves"
    found = {"curves": Figure("Models", draw, {"curves": curves})}
    noise = {sensor: out(f"dataset/{sensor}/noise.json") for sensor in C.sensors}
    draw = "pipeline_lib.report.noise.plot_noise"
    found["noise"] = Figure("Cubes", draw, {"noise": noise})
    for model in TRAINED:
        files = {"evaluation": out(f"evaluation/probes-{model}.json")}
        draw = "pipeline_lib.report.probes.plot_probes"
        found[f"probes-{model}"] = Figure("Models", draw, files)
    return found


def window_figures():
    """Of all cubes that are learned from or embedded."""
    split, shown = rules.split_sites.output[0], set(embedded_cubes())
    cubes = {
        sensor: {
            cube: cube_file(sensor, cube)
            for cube in cubes_of(sensor)
            if cube in shown.union(learning_cubes(sensor))
        }
        for sensor in C.sensors
    }
    options = {
        "embedded": sorted(shown),
        "windows": {
            name: {
                "span_days": sensor.sequence.max_span_days,
                "rolling_mean": sensor.rolling_mean,
            }
            for name, sensor in C.sensors.items()
        },
        "frames": C.context.frames,
        "seed": C.seed,
    }
    return {
        "windows": Figure(
            "Cubes",
            "pipeline_lib.report.windows.plot_windows",
            {"cubes": cubes, "split_table": split},
            options,
            inputs=[split, *(path for own in cubes.values() for path in own.values())],
        )
    }


def embedding_figures():
    files = {
        "embeddings": manifests_of(embedded_cubes()),
        "cubes": {cube: cube_file(REFERENCE, cube) for cube in embedded_cubes()},
    }
    rgb, split = list(C.sensors[REFERENCE].rgb or ()), rules.split_sites.output[0]
    return {
        "dates": Figure(
            "Embeddings",
            "pipeline_lib.report.pca.plot_pca_dates",
            files,
            {"rgb": rgb},
            memory_mb=4000,
        ),
        "pca": Figure(
            "Embeddings",
            "pipeline_lib.report.pca.plot_pca_maps",
            files | {"split_table": split},
            {"rgb": rgb, "seed": C.seed},
            memory_mb=8000,
        ),
        "maps": Figure(
            "Embeddings",
            "pipeline_lib.report.maps.plot_maps",
            {"evaluation": out("evaluation/maps.json")},
        ),
    }


def gpp_figures():
    if not TOWERS:
        return {}
    folder = {"folder": out("gpp")}
    metrics, sites = out("gpp/metrics.json"), out("gpp/sites.csv")
    predictions, targets = out("gpp/predictions.csv"), per_tower("targets/{tower}.csv")
    found = {
        "methods": ("plot_methods", [metrics]),
        "points": ("plot_points", [metrics, predictions, *GPP_PREDICTIONS]),
    }
    if not TABLES_ALONE:
        embeddings = per_tower("series/embedding/{tower}.csv")
        found["towers"] = "plot_series", [sites, *embeddings, *targets]
    # Windows of single days are neither lines nor of several lengths.
    if C.gpp.windows.length_days > 1:
        found["gpp"] = "plot_days", [metrics, predictions, sites, *targets]
    if C.gpp.windows.length_days > 1 and C.gpp.windows.other_lengths_days:
        found["lengths"] = "plot_lengths", [metrics]
    return {
        name: Figure("GPP", f"pipeline_lib.gpp.figures.{draw}", folder, inputs=inputs)
        for name, (draw, inputs) in found.items()
    }


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


def files_drawn(wildcards):
    """Files by argument. The table of sites is known only after its job.

    As plain text: outputs of rules hold their rule, which no job can be handed.
    """
    files = FIGURES[wildcards.figure].files
    found = {
        name: file(wildcards) if callable(file) else file
        for name, file in files.items()
    }
    return {
        name: file if isinstance(file, dict) else str(file)
        for name, file in found.items()
    }


def files_awaited(wildcards):
    files = FIGURES[wildcards.figure].inputs or files_drawn(wildcards).values()
    return [
        path
        for each in files
        for path in (each.values() if isinstance(each, dict) else [each])
    ]


# A comparison of tables of features with GPP has no other figures.
FIGURES = gpp_figures()
if not TABLES_ALONE:
    FIGURES = (
        site_figures()
        | cube_figures()
        | window_figures()
        | model_figures()
        | embedding_figures()
        | FIGURES
    )


wildcard_constraints:
    figure=alternation(FIGURES),


rule figure:
    input:
        files_awaited,
    output:
        report(
            out("figures/{figure}.png"),
            caption="../report/figure.rst",
            category=lambda w: FIGURES[w.figure].stage,
            labels={"figure": "{figure}"},
        ),
    log:
        out("logs/figure/{figure}.log"),
    benchmark:
        out("benchmarks/figure/{figure}.tsv")
    resources:
        mem_mb=retry_memory(lambda w: FIGURES[w.figure].memory_mb),
        runtime=30,
    params:
        draw=lambda w: FIGURES[w.figure].draw,
        files=files_drawn,
        options=lambda w: FIGURES[w.figure].options,
        code=code_of("figure", lambda w: FIGURES[w.figure].draw),
    message:
        "Drawing the figure {wildcards.figure}"
    script:
        f"{SCRIPTS}/figure.py"
