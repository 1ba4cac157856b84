# What the embeddings tell of gross primary production at flux towers.

GPP_CODE = library_digest(["embed", "gpp"])


def tower_files(folder):
    return {tower: f"{RUN}/gpp/{folder}/{tower}.csv" for tower in TOWERS}


def flux_files(wildcards):
    if C.demo:
        return f"{FLUXNET}/{TOWER_FILE}"
    return sorted(str(path) for path in Path(FLUXNET).glob(f"*{wildcards.tower}*"))


if TOWERS:

    rule gpp_targets:
        input:
            flux_files,
        output:
            f"{RUN}/gpp/targets/{{tower}}.csv",
        log:
            f"{RUN}/logs/gpp_targets/{{tower}}.log",
        benchmark:
            f"{RUN}/benchmarks/gpp_targets/{{tower}}.tsv"
        resources:
            mem_mb=1000,
            runtime=10,
        params:
            tower=lambda w: plain(TOWERS[w.tower]),
            gpp=C.gpp.model_dump(
                mode="json", include={"period", "min_quality", "min_good_days"}
            ),
            fluxnet=str(FLUXNET),
            code=GPP_CODE,
        message:
            "Reading the fluxes of {wildcards.tower}"
        script:
            f"{SCRIPTS}/gpp_targets.py"

    rule gpp_series:
        input:
            f"{RUN}/embeddings/{{tower}}/manifest.json",
        output:
            f"{RUN}/gpp/series/{{tower}}.csv",
        log:
            f"{RUN}/logs/gpp_series/{{tower}}.log",
        benchmark:
            f"{RUN}/benchmarks/gpp_series/{{tower}}.tsv"
        resources:
            mem_mb=2000,
            runtime=10,
        params:
            tower=lambda w: plain(TOWERS[w.tower]),
            gpp=C.gpp.model_dump(
                mode="json", include={"period", "footprint_m", "max_gap_days"}
            ),
            embedding=f"{RUN}/embeddings/{{tower}}",
            code=GPP_CODE,
        message:
            "Averaging the embeddings around {wildcards.tower}"
        script:
            f"{SCRIPTS}/gpp_series.py"

    rule gpp_regression:
        input:
            targets=list(tower_files("targets").values()),
            series=list(tower_files("series").values()),
        output:
            metrics=f"{RUN}/gpp/metrics.json",
            predictions=f"{RUN}/gpp/predictions.csv",
        log:
            f"{RUN}/logs/gpp_regression.log",
        benchmark:
            f"{RUN}/benchmarks/gpp_regression.tsv"
        threads: C.training.threads
        resources:
            mem_mb=4000,
            runtime=120,
        params:
            gpp=C.gpp.model_dump(
                mode="json",
                exclude={"fluxnet", "min_quality", "footprint_m", "max_gap_days"},
            ),
            targets=tower_files("targets"),
            series=tower_files("series"),
            seed=C.seed,
            code=GPP_CODE,
        message:
            "Regressing GPP on the embeddings"
        script:
            f"{SCRIPTS}/gpp_regression.py"
