# The simulated archive: only where the config has a block `demo`.

if C.demo:

    # Named as FLUXNET2015 names its daily files, which is how they are found.
    TOWER_FILE = (
        "FLX_{{tower}}_FLUXNET2015_FULLSET_DD_{0}-{1}_1-4.csv".format(
            C.gpp.period.start.year, C.gpp.period.end.year
        )
        if C.gpp
        else "{tower}.csv"
    )

    if C.sites:

        rule demo_land_cover:
            output:
                out(f"archive/items/{C.sites.land_cover.collection}.json"),
            log:
                out("logs/demo_land_cover.log"),
            benchmark:
                out("benchmarks/demo_land_cover.tsv")
            resources:
                mem_mb=retry_memory(2000),
                runtime=10,
            params:
                sites=plain(C.sites),
                demo=plain(C.demo),
                seed=C.seed,
                folder=subpath(output[0], ancestor=2),
                code=code_of("demo_land_cover"),
            message:
                "Simulating a land-cover map"
            script:
                f"{SCRIPTS}/demo_land_cover.py"

    rule demo_canopy:
        output:
            out("archive/canopy.npz"),
        log:
            out("logs/demo_canopy.log"),
        benchmark:
            out("benchmarks/demo_canopy.tsv")
        resources:
            mem_mb=retry_memory(2000),
            runtime=10,
        params:
            code=code_of("demo_canopy"),
        message:
            "Tabulating the canopy's directional reflectance"
        script:
            f"{SCRIPTS}/demo_canopy.py"

    rule demo_site:
        input:
            site_table_first,
            canopy=rules.demo_canopy.output[0],
        output:
            out("archive/items/{site}.json"),
            out("truth/{site}.npz"),
        log:
            out("logs/demo_site/{site}.log"),
        benchmark:
            out("benchmarks/demo_site/{site}.tsv")
        resources:
            mem_mb=retry_memory(2000),
            runtime=20,
        params:
            requests=lambda w: requests_of(
                [c for c in [*SITE_CUBES, *AREAS] if site_of(c) == w.site]
            ),
            tower=None,
            cube=plain(C.cube),
            demo=plain(C.demo),
            seed=C.seed,
            folder=subpath(output[0], ancestor=2),
            truth=subpath(output[1], parent=True),
            code=code_of("demo_site"),
        message:
            "Simulating the scenes around {wildcards.site}"
        script:
            f"{SCRIPTS}/demo_site.py"

    use rule demo_site as demo_tower with:
        input:
            canopy=rules.demo_canopy.output[0],
        output:
            out("archive/items/{tower}.json"),
            out("truth/{tower}.npz"),
            f"{FLUXNET}/{TOWER_FILE}",
        log:
            out("logs/demo_tower/{tower}.log"),
        benchmark:
            out("benchmarks/demo_tower/{tower}.tsv")
        params:
            requests=lambda w: requests_of([w.tower]),
            tower=lambda w: place_of(TOWERS[w.tower]),
            cube=plain(C.cube),
            demo=plain(C.demo),
            seed=C.seed,
            folder=subpath(output[0], ancestor=2),
            truth=subpath(output[1], parent=True),
            code=code_of("demo_site"),
        message:
            "Simulating the scenes and the fluxes around {wildcards.tower}"
