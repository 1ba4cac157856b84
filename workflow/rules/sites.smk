# Training sites, of the user's own table or drawn from a land-cover map.

if C.sites and C.sites.file:

    rule site_table:
        input:
            str(C.sites.file),
        output:
            out("sites.csv"),
            out("sites.gpkg"),
        log:
            out("logs/site_table.log"),
        benchmark:
            out("benchmarks/site_table.tsv")
        localrule: True
        params:
            code=code_of("site_table"),
        message:
            "Reading the table of sites"
        script:
            f"{SCRIPTS}/site_table.py"

elif C.sites:

    checkpoint sample_sites:
        input:
            rules.demo_land_cover.output if C.demo else [],
        output:
            out("sites.csv"),
            out("sites.gpkg"),
        log:
            out("logs/sample_sites.log"),
        benchmark:
            out("benchmarks/sample_sites.tsv")
        retries: 0 if C.demo or C.sites.land_cover.file else 2
        resources:
            mem_mb=retry_memory(2000),
            runtime=30,
        params:
            sites=plain(C.sites),
            catalog=SEARCHED,
            seed=C.seed,
            code=code_of("sample_sites"),
        message:
            "Drawing the sites"
        script:
            f"{SCRIPTS}/sample_sites.py"
