# Dense embeddings of every pixel and cloud-free date.


rule embed_cube:
    input:
        trained_models,
        cubes=lambda w: [cube_file(sensor, w.cube) for sensor in sensors_with(w.cube)],
        encoders=[file for sensor in C.sensors for file in model_files(sensor)],
        fusion=fusion_files(),
    output:
        out("embeddings/{cube}/manifest.json"),
    log:
        out("logs/embed_cube/{cube}.log"),
    benchmark:
        out("benchmarks/embed_cube/{cube}.tsv")
    threads: lambda w: tiles_at_once(w.cube)
    resources:
        mem_mb=lambda w, attempt, threads: attempt * embedding_memory(threads),
        runtime=lambda w, threads: 60 + round(120 * pixel_years(w.cube) / threads),
        gpu=gpus("embed"),
    params:
        cubes=lambda w: {s: cube_file(s, w.cube) for s in sensors_with(w.cube)},
        encoders={sensor: f"{MODELS}/{sensor}" for sensor in C.sensors},
        model=MODEL_DIGEST,
        embed=C.embed.model_dump(mode="json", exclude=set(GEOTIFFS)),
        state=out("state/embed/{cube}"),
        code=code_of("embed_cube"),
    message:
        "Embedding {wildcards.cube}"
    script:
        f"{SCRIPTS}/embed_cube.py"


rule geotiff:
    input:
        out("embeddings/{cube}/manifest.json"),
    output:
        geotiff=out("embeddings/{cube}/geotiff/{date}.tif"),
        item=out("embeddings/{cube}/geotiff/{date}.json"),
    log:
        out("logs/geotiff/{cube}/{date}.log"),
    benchmark:
        out("benchmarks/geotiff/{cube}/{date}.tsv")
    wildcard_constraints:
        cube=alternation(embedded_cubes()),
        date=r"\d{4}-\d\d-\d\d",
    resources:
        mem_mb=retry_memory(lambda w: 1000 + round(150 * megapixels(w.cube))),
        runtime=30,
    params:
        code=code_of("geotiff"),
    message:
        "GeoTIFF of {wildcards.cube}, {wildcards.date}"
    script:
        f"{SCRIPTS}/geotiff.py"


checkpoint closest_dates:
    input:
        embeddings(),
    output:
        out("embeddings/geotiff_dates.csv"),
    log:
        out("logs/closest_dates.log"),
    benchmark:
        out("benchmarks/closest_dates.tsv")
    resources:
        mem_mb=retry_memory(1000),
        runtime=10,
    params:
        **GEOTIFFS,
        code=code_of("closest_dates"),
    message:
        "Dates of the GeoTIFFs"
    script:
        f"{SCRIPTS}/closest_dates.py"
