# What a run takes, before anything of it exists.


rule write_plan:
    input:
        [str(a.outline) for a in C.areas.values() if a.outline],
    output:
        json=out("plan/plan.json"),
        page=out("plan/plan.md"),
        figure=out("plan/plan.png"),
    log:
        out("logs/write_plan.log"),
    benchmark:
        out("benchmarks/write_plan.tsv")
    localrule: True
    # All of what the jobs share: the plan is one for this much. It is the only job.
    resources:
        mem_mb=SHARED_MB,
        gpu=SHARED_GPUS,
    params:
        config=plain(C),
        cores=workflow.cores,
        largest=lambda w: largest_jobs(),
        trained=MODEL_DIGEST,
        code=code_of("write_plan"),
    message:
        "Planning the run"
    script:
        f"{SCRIPTS}/write_plan.py"


# Without an output, so that it tells whenever it is asked for.
rule plan:
    input:
        rules.write_plan.output.page,
    log:
        out("logs/plan.log"),
    localrule: True
    message:
        "The plan, also in {input}"
    shell:
        "tee {log} < {input}"
