# From the catalog, or from the user's own files, to cubes.


rule pin_items:
    input:
        site_table_first,
        lambda w: archive_of(w.cube),
    output:
        out("items/{sensor}/{cube}.json"),
    log:
        out("logs/pin_items/{sensor}/{cube}.log"),
    benchmark:
        out("benchmarks/pin_items/{sensor}/{cube}.tsv")
    retries: 0 if C.demo else 3
    resources:
        mem_mb=retry_memory(1000),
        runtime=30,
    params:
        request=request_of,
        sensor=lambda w: source_of(w.sensor),
        cube=plain(C.cube),
        catalog=SEARCHED,
        code=code_of("pin_items"),
    message:
        "Asking the catalog for the {wildcards.sensor} scenes of {wildcards.cube}"
    script:
        f"{SCRIPTS}/pin_items.py"


rule build_cube:
    input:
        pinned=rules.pin_items.output[0],
    output:
        out("cubes/{sensor}/{cube}.zarr.zip"),
    log:
        out("logs/build_cube/{sensor}/{cube}.log"),
    benchmark:
        out("benchmarks/build_cube/{sensor}/{cube}.tsv")
    wildcard_constraints:
        cube=alternation([*SITE_CUBES, *TOWERS, *AREAS]),
    retries: 0 if C.demo else 3
    resources:
        mem_mb=retry_memory(lambda w: cube_memory(w.cube)),
        runtime=lambda w: 120 + round(60 * pixel_years(w.cube)),
        gpu=lambda w: gpus("clouds") if with_cloud_model(w.sensor) else 0,
    params:
        sensor=lambda w: source_of(w.sensor),
        cube=plain(C.cube),
        catalog=ORIGIN,
        code=code_of("build_cube", loader_of),
    message:
        "Building the {wildcards.sensor} cube of {wildcards.cube}"
    script:
        f"{SCRIPTS}/build_cube.py"


rule ingest_cube:
    input:
        # The grid of a cube is that of all its files.
        lambda w: own_files(w.cube),
    output:
        out("cubes/{sensor}/{cube}.zarr.zip"),
    log:
        out("logs/ingest_cube/{sensor}/{cube}.log"),
    benchmark:
        out("benchmarks/ingest_cube/{sensor}/{cube}.tsv")
    wildcard_constraints:
        cube=alternation(OWN_CUBES),
    resources:
        mem_mb=retry_memory(4000),
        runtime=30,
    params:
        sensor=lambda w: source_of(w.sensor),
        own=lambda w: contents_of(w.cube),
        resolution_m=C.cube.resolution_m,
        code=code_of("ingest_cube"),
    message:
        "Reading the {wildcards.sensor} files of {wildcards.cube}"
    script:
        f"{SCRIPTS}/ingest_cube.py"


rule write_labels:
    input:
        lambda w: [*own_files(w.cube), str(OWN_CUBES[w.cube].labels.file)],
    output:
        out("labels/{cube}.npz"),
    log:
        out("logs/write_labels/{cube}.log"),
    benchmark:
        out("benchmarks/write_labels/{cube}.tsv")
    wildcard_constraints:
        cube=alternation(labels_of_cubes()),
    resources:
        mem_mb=retry_memory(1000),
        runtime=10,
    params:
        own=lambda w: contents_of(w.cube),
        labels=lambda w: plain(OWN_CUBES[w.cube].labels),
        resolution_m=C.cube.resolution_m,
        code=code_of("write_labels"),
    message:
        "Reading the labels of {wildcards.cube}"
    script:
        f"{SCRIPTS}/write_labels.py"
