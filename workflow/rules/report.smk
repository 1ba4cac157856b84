# Maps in numbers, figures, and the one page that shows them.


rule assess_maps:
    input:
        embeddings=list(manifests_of(assessed_cubes()).values()),
        cubes=[f for files in files_of_assessed().values() for f in files.values()],
        split=rules.split_sites.output[0],
        truth=sorted(set(truth_of(assessed_cubes()).values())),
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
        embeddings=manifests_of(assessed_cubes()),
        cubes=files_of_assessed(),
        truth=truth_of(assessed_cubes()),
        seed=C.seed,
        code=code_of("assess_maps"),
    message:
        "Measuring how smooth and how sharp the maps are"
    script:
        f"{SCRIPTS}/assess_maps.py"


# Snakemake's own report renders them too.
CAPTIONS = Path(workflow.source_path("../report/figure.rst")).read_text()


rule report:
    input:
        figures=[out(f"figures/{name}.png") for name in FIGURES],
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
        report(
            out("report.html"),
            caption="../report/page.rst",
            category="Report",
            labels={"figure": "all figures and tables"},
        ),
    log:
        out("logs/report.log"),
    benchmark:
        out("benchmarks/report.tsv")
    resources:
        mem_mb=retry_memory(4000),
        runtime=10,
    params:
        config=plain(C),
        figures={name: out(f"figures/{name}.png") for name in FIGURES},
        captions=lambda w: CAPTIONS,
        code=code_of("report"),
    message:
        "Writing the report"
    script:
        f"{SCRIPTS}/report.py"
