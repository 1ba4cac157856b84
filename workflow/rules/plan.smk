# What a run takes, before anything of it is there.

from types import SimpleNamespace


def memory_asked():
    """Rule -> memory that its largest job asks for at first, with all its threads, MB."""
    largest = SimpleNamespace(cube=max(embedded_cubes(), key=megapixels, default=None))

    def asked(resources):
        threads = resources["_cores"].evaluate(largest, attempt=1).value
        return resources["mem_mb"].evaluate(largest, attempt=1, threads=threads).value

    return {
        one.name: asked(one.resources)
        for one in workflow.rules
        if "mem_mb" in one.resources
    }


rule write_plan:
    input:
        rates=f"{workflow.basedir}/benchmarks/rates.json",
        outlines=[str(a.outline) for a in C.areas.values() if a.outline],
    output:
        json=out("plan/plan.json"),
        page=out("plan/plan.md"),
        figure=out("plan/plan.png"),
    log:
        out("logs/write_plan.log"),
    benchmark:
        out("benchmarks/write_plan.tsv")
    localrule: True
    params:
        config=plain(C),
        memory_mb=lambda w: memory_asked(),
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
    localrule: True
    message:
        "The plan, also in {input}"
    shell:
        "cat {input}"
