# The simulated archive: only where the config has a block `demo`.

if C.demo:

    rule demo_land_cover:
        message:
            "Simulating a land-cover map"
        output:
            f"{RUN}/archive/items/{C.sites.land_cover.collection}.json",
        params:
            sites=plain(C.sites),
            demo=plain(C.demo),
            seed=C.seed,
            folder=f"{RUN}/archive",
            code=library_digest(["config", "demo"]),
        log:
            f"{RUN}/logs/demo_land_cover.log",
        benchmark:
            f"{RUN}/benchmarks/demo_land_cover.tsv"
        resources:
            mem_mb=2000,
            runtime=10,
        script:
            f"{SCRIPTS}/demo_land_cover.py"

    rule demo_canopy:
        message:
            "Tabulating the canopy's directional reflectance"
        output:
            f"{RUN}/archive/canopy.npz",
        params:
            code=library_digest(["demo"]),
        log:
            f"{RUN}/logs/demo_canopy.log",
        benchmark:
            f"{RUN}/benchmarks/demo_canopy.tsv"
        resources:
            mem_mb=2000,
            runtime=10,
        script:
            f"{SCRIPTS}/demo_canopy.py"

    rule demo_site:
        message:
            "Simulating the scenes around {wildcards.site}"
        input:
            site_table_first,
            canopy=rules.demo_canopy.output[0],
        output:
            f"{RUN}/archive/items/{{site}}.json",
        params:
            requests=lambda w: requests_of([c for c in SITE_CUBES if site_of(c) == w.site]),
            tower=None,
            cube=plain(C.cube),
            demo=plain(C.demo),
            seed=C.seed,
            folder=f"{RUN}/archive",
            truth=f"{RUN}/truth",
            code=library_digest(["config", "cubes", "demo"]),
        log:
            f"{RUN}/logs/demo_site/{{site}}.log",
        benchmark:
            f"{RUN}/benchmarks/demo_site/{{site}}.tsv"
        resources:
            mem_mb=2000,
            runtime=20,
        script:
            f"{SCRIPTS}/demo_site.py"

    use rule demo_site as demo_tower with:
        message:
            "Simulating the scenes and the fluxes around {wildcards.tower}"
        input:
            canopy=rules.demo_canopy.output[0],
        output:
            f"{RUN}/archive/items/{{tower}}.json",
            f"{RUN}/archive/fluxnet/{{tower}}.done",
        params:
            requests=lambda w: requests_of([w.tower]),
            tower=lambda w: plain(TOWERS[w.tower]),
            cube=plain(C.cube),
            demo=plain(C.demo),
            seed=C.seed,
            folder=f"{RUN}/archive",
            truth=f"{RUN}/truth",
            code=library_digest(["config", "cubes", "demo"]),
        log:
            f"{RUN}/logs/demo_tower/{{tower}}.log",
        benchmark:
            f"{RUN}/benchmarks/demo_tower/{{tower}}.tsv"


def archive_of(cube):
    """What must be simulated before the catalog can be asked for a cube."""
    return [f"{RUN}/archive/items/{site_of(cube)}.json"] if C.demo else []
