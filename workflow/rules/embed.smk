# Dense embeddings of every pixel and cloud-free date.


def sensors_with(cube):
    return [sensor for sensor in C.sensors if cube in cubes_of(sensor)]


rule embed_cube:
    input:
        cubes=lambda w: [cube_file(sensor, w.cube) for sensor in sensors_with(w.cube)],
        encoders=[file for sensor in C.sensors for file in model_files(sensor)],
        fusion=fusion_files(),
    output:
        f"{RUN}/embeddings/{{cube}}/manifest.json",
    log:
        f"{RUN}/logs/embed_cube/{{cube}}.log",
    benchmark:
        f"{RUN}/benchmarks/embed_cube/{{cube}}.tsv"
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        cubes=lambda w: {s: cube_file(s, w.cube) for s in sensors_with(w.cube)},
        encoders=rules.train_fusion.params.encoders,
        embed=plain(C.embed),
        state=f"{STATE}/embed/{{cube}}",
        code=library_digest(["cubes", "dataset", "models", "embed"]),
    message:
        "Embedding {wildcards.cube}"
    script:
        f"{SCRIPTS}/embed_cube.py"
