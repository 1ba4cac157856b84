import csv
import os
import re
import shutil

from snakemake.exceptions import WorkflowError

from pipeline_lib.code_digest import code_digest
from pipeline_lib.config import (
    LOADERS,
    are_trained,
    parse_before_models,
    parts_of,
    trained_blocks,
    with_defaults,
)
from pipeline_lib.config.check import check_yaml
from pipeline_lib.config.sites import site_rows
from pipeline_lib.errors import UserError
from pipeline_lib.files import digest_of
from pipeline_lib.machine import available_mb, visible_gpus
from pipeline_lib.plan.memory import learning_mb
from pipeline_lib.run_lock import hold, start

# A workflow that imports this one as a module may give only a few keys.
config.update(with_defaults(config))
try:
    check_yaml(map(Path, workflow.configfiles))
    C = parse_before_models(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

# On a cluster the process of a job reads the config again, which may have been edited meanwhile.
CONFIG_DIGEST, CONFIG_OF = digest_of(C.model_dump(mode="json")), f"CONFIG_OF_{C.run}"
if workflow.is_main_process:
    os.environ[CONFIG_OF.replace("-", "_")] = CONFIG_DIGEST
elif os.environ.get(CONFIG_OF.replace("-", "_"), CONFIG_DIGEST) != CONFIG_DIGEST:
    raise WorkflowError(
        f"The config of {C.run}, or the table of its sites, was edited while the run is alive: "
        "wait for its jobs, or stop it, and run again"
    )

# What the jobs of this machine share, unless the user or the profile of a cluster says it.
if workflow.is_main_process and workflow.resource_settings.nodes is None:
    given = {name.partition("_")[0] for name in workflow.global_resources}
    if "mem" not in given:
        workflow.register_resource("mem_mb", available_mb())
    if "gpu" not in given:
        workflow.register_resource("gpu", len(visible_gpus()))
SHARED_MB, SHARED_GPUS = (
    workflow.global_resources[name].value if name in workflow.global_resources else none
    for name, none in (("mem_mb", available_mb()), ("gpu", 0))
)

SCRIPTS = "../scripts"
RUN = f"results/{C.run}"
# Held for the life of this process. Neither dry runs nor the processes of jobs hold it.
RUN_LOCK = (
    hold(RUN)
    if workflow.is_main_process and not workflow.output_settings.dryrun
    else None
)
MODELS = str(C.models or f"{RUN}/models")
# Models that were not trained here may be replaced by older files.
MODEL_DIGEST = (
    trained_blocks(C.models).digest if C.models and are_trained(C.models) else None
)
REFERENCE = C.fusion.reference
TRAINED = [*C.sensors, "fusion"]


def out(path):
    """A product of this run, or a pattern of them, as `cubes/{sensor}/{cube}.zarr.zip`."""
    return f"{RUN}/{path}"


def code_of(script, *loaded):
    """Digest of the code that a script runs: only an edit of that code reruns its rule.

    Loaded are functions that are only named in data, as functions of the wildcards.
    """
    path = Path(workflow.source_path(f"../scripts/{script}.py"))
    return lambda wildcards: code_digest(path, *(name(wildcards) for name in loaded))


def loader_of(wildcards):
    """The function that loads the scenes of a sensor."""
    return LOADERS[C.sensors[wildcards.sensor].loader].function


def trained_models(wildcards):
    """Stops what needs trained models that are not there; a plan of it does not."""
    if C.models and not are_trained(C.models):
        try:
            trained_blocks(C.models)
        except UserError as error:
            raise WorkflowError(f"models: {error}") from None
    return []


def plain(block):
    """A config block as what Snakemake can compare and hand to a script."""
    return block.model_dump(mode="json")


def place_of(tower):
    """A tower without what is averaged around it."""
    return tower.model_dump(mode="json", exclude={"footprint"})


# The simulated archive stands in for the catalog; the rest of the workflow does not know.
CATALOG = (
    C.catalog.model_copy(update={"source": out("archive"), "signing": "none"})
    if C.demo
    else C.catalog
)
FLUXNET = out("archive/fluxnet") if C.demo else (C.gpp and C.gpp.fluxnet)

SITE_CUBES = C.sites.cubes() if C.sites else {}
SITES = list(dict.fromkeys(SITE_CUBES.values()))
# A run that only compares tables of features with GPP has no cubes and trains nothing.
TABLES_ALONE = C.tables_alone
# GPP is compared where tower files are known.
TOWERS = (
    {tower.name: tower for tower in C.gpp.towers}
    if C.gpp and (C.demo or C.gpp.measured)
    else {}
)
OWN_CUBES = dict(C.own_cubes)
AREAS = parts_of(C.areas)


def encoder_memory(sensor):
    """Memory of a job that holds the cubes of a sensor, MB."""
    return learning_mb(C, [sensor], C.training.batch_size)


def fusion_memory(wildcards=None):
    """Memory of a job that holds all cubes, MB."""
    return learning_mb(C, C.sensors, C.training.batch_size)


def retry_memory(mb):
    """Memory of a job, MB: more with each attempt, as a cluster kills what takes more."""
    return lambda wildcards, attempt: attempt * (mb(wildcards) if callable(mb) else mb)


def gpus(stage, devices=1):
    """GPUs of a job on this machine; the profile of a cluster says how many it gets there."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    here = shutil.which("nvidia-smi") and not hidden
    return devices if here and getattr(C.devices, stage) == "gpu" else 0


def with_cloud_model(sensor):
    return C.sensors[sensor].clouds == "cloudsen12"


def alternation(names):
    """A regular expression that matches these names and nothing else."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    sensor=alternation(C.sensors),
    model=alternation(TRAINED),
    site=alternation([*SITES, *AREAS]),
    tower=alternation(TOWERS),
    table=alternation(C.gpp.features if C.gpp else []),


def cubes_of(sensor):
    """Every cube of a sensor."""
    own = [cube for cube, block in OWN_CUBES.items() if sensor in block.files]
    towers = [] if TABLES_ALONE else TOWERS
    return [*SITE_CUBES, *towers, *AREAS, *own]


def own_files(cube):
    """The files of a user-supplied cube, of all its sensors."""
    blocks = [block for files in OWN_CUBES[cube].files.values() for block in files]
    return list(dict.fromkeys(str(block.file) for block in blocks))


def contents_of(cube):
    """The keys of a user-supplied cube that decide its pixels."""
    return OWN_CUBES[cube].model_dump(mode="json", exclude={"split", "embed", "labels"})


def learning_cubes(sensor):
    """The cubes that may be trained or tested on: towers are kept for the GPP comparison."""
    return [cube for cube in cubes_of(sensor) if cube not in TOWERS]


def embedded_cubes():
    """The cubes whose embeddings are exported."""
    return [
        cube
        for cube in cubes_of(REFERENCE)
        if cube not in OWN_CUBES or OWN_CUBES[cube].embed
    ]


def cube_file(sensor, cube):
    return out(f"cubes/{sensor}/{cube}.zarr.zip")


def model_files(sensor):
    return [f"{MODELS}/{sensor}/{name}" for name in MODEL_FILES]


MODEL_FILES = ["model.safetensors", "model.json", "curves.csv", "README.md"]


def fusion_files():
    return model_files("fusion")


def final_products():
    """What a run is made for, besides embeddings: a page, or figures of GPP alone."""
    if TABLES_ALONE:
        return [out(f"figures/{name}.png") for name in FIGURES]
    return [] if C.models else [out("report.html")]


def embeddings():
    return [out(f"embeddings/{cube}/manifest.json") for cube in embedded_cubes()]


def site_of(cube):
    return SITE_CUBES.get(cube, cube)


def site_table(wildcards):
    """The table of sites; a drawn one is known only after its job."""
    if not C.sites:
        return []
    return (
        out("sites.csv") if C.sites.file else checkpoints.sample_sites.get().output[0]
    )


def site_table_first(wildcards):
    """Make a job wait for the drawn sites, yet rerun only when its own row changes."""
    if (
        C.sites
        and not C.sites.file
        and (cube_or_site := wildcards.get("cube", wildcards.get("site"))) not in TOWERS
    ):
        checkpoints.sample_sites.get()
    return []


def megapixels(cube):
    """Millions of pixels of an area; the cubes of sites are small."""
    if cube not in AREAS:
        return 0
    width, height = AREAS[cube].sides_km
    return width * height / C.cube.resolution_m**2


def pixel_years(cube):
    """The same, times years."""
    return megapixels(cube) * AREAS[cube].years if cube in AREAS else 0


def requests_of(cubes):
    """What each of these cubes shall hold, as rows of text."""
    if cubes[0] in AREAS:
        # What is left out of the other parts does not change this one.
        area = AREAS[cubes[0]].model_dump(mode="json", exclude={"outline"})
        west, south, east, north = area["bounds"]
        place = {"lon": (west + east) / 2, "lat": (south + north) / 2}
        named = {"cube": cubes[0], "site": cubes[0], "land_cover": "others"}
        return [named | place | area]
    if cubes[0] in TOWERS:
        tower = TOWERS[cubes[0]]
        period = plain(C.gpp.period)
        place = {"lon": tower.lon, "lat": tower.lat, "land_cover": tower.vegetation}
        return [{"cube": tower.name, "site": tower.name} | place | period]
    drawn = None if C.sites.file else checkpoints.sample_sites.get().output[0]
    try:
        return site_rows(C.sites.file or Path(drawn), cubes)
    except UserError as error:
        raise WorkflowError(str(error)) from None


def request_of(wildcards):
    return requests_of([wildcards.cube])[0]


def source_of(sensor):
    """The keys of a sensor that decide its cubes."""
    return plain(C.sensors[sensor].source())


def learner_of(sensor):
    """The keys of a sensor that decide its autoencoder."""
    return C.sensors[sensor].model_dump(mode="json", exclude={"rgb"})


def flux_files():
    """The files that hold the fluxes of the towers."""
    if C.demo:
        return expand(f"{FLUXNET}/{TOWER_FILE}", tower=TOWERS)
    table = [str(C.gpp.fluxes.table.file)] if C.gpp.fluxes.table else []
    files = [p for p in Path(FLUXNET).rglob("*") if p.is_file()] if FLUXNET else []
    # The code of a site may stand in the name of the file or of a folder above it.
    return table + sorted(
        str(p) for p in files if any(t in str(p.relative_to(FLUXNET)) for t in TOWERS)
    )


def files_of_table(name):
    """The files that hold a table of features."""
    table = C.gpp.features[name]
    return dict.fromkeys(str(table.file_of(tower)) for tower in TOWERS)


def flux_towers():
    """The part of the config that the measured GPP depends on."""
    block = C.gpp.model_copy(update={"fluxnet": FLUXNET})
    towers = {"__all__": {"name", "lon", "lat", "vegetation"}}
    kept = {"fluxnet": True, "towers": towers, "period": True, "fluxes": True}
    return block.model_dump(mode="json", include=kept)


def per_tower(pattern):
    """A file of each tower, from a pattern below the folder of the GPP comparison."""
    return [out(f"gpp/{pattern}").replace("{tower}", tower) for tower in TOWERS]


# Timeouts and the like steer the transport, not the result: they reach the scripts through the
# config, where an edit of them reruns nothing.
ORIGIN = CATALOG.model_dump(mode="json", include={"source", "signing", "missing_asset"})
# What may be missing of a scene decides its cube, not where and when there are scenes.
SEARCHED = {key: ORIGIN[key] for key in ("source", "signing")}


def archive_of(cube):
    """What must be simulated before the catalog can be asked for a cube."""
    return [out(f"archive/items/{site_of(cube)}.json")] if C.demo else []


def cube_memory(cube):
    """Memory of a job that builds a cube, MB."""
    return 2500 + round(3000 * megapixels(cube))


def split_rows():
    """One row per cube that may be learned from, as the split takes them."""
    return [
        {
            "cube": cube,
            "site": block.site,
            "land_cover": block.land_cover,
            "split": block.split,
            "sensors": [sensor for sensor in C.sensors if sensor in block.files],
        }
        for cube, block in OWN_CUBES.items()
    ]


def sensors_with(cube):
    return [sensor for sensor in C.sensors if cube in cubes_of(sensor)]


def tiles_at_once(cube):
    """Tiles of a cube that may be computed side by side, one per core."""
    return max(1, min(8, round(1e6 * megapixels(cube) / C.embed.tile_px**2)))


def embedding_memory(threads):
    """Memory of a job that embeds a cube, MB."""
    return 2000 + 2000 * threads


# Which dates become GeoTIFFs does not change the embeddings.
GEOTIFFS = C.embed.model_dump(
    mode="json", include={"geotiff_dates", "geotiff_tolerance_days"}
)


def geotiffs(wildcards):
    """The GeoTIFFs that the config asks for: of each cube's own dates, by their names."""
    if not C.embed.geotiff_dates:
        return []
    with open(checkpoints.closest_dates.get().output[0], newline="") as handle:
        return sorted(
            {
                out(f"embeddings/{row['cube']}/geotiff/{row['closest']}.tif")
                for row in csv.DictReader(handle)
                if row["close_enough"] == "True"
            }
        )


def truth_of(cubes):
    """What the simulated archive knows of the cubes' sites. Nothing is learnt from it."""
    known = [cube for cube in cubes if cube in SITE_CUBES or cube in TOWERS]
    return {cube: out(f"truth/{site_of(cube)}.npz") for cube in known if C.demo}


def probed_cubes(sensor):
    """The cubes that may be learnt from, and those whose truth is known."""
    cubes = cubes_of(sensor)
    return [c for c in cubes if c not in TOWERS or c in truth_of(cubes)]


def labels_of_cubes():
    """What the user knows of the land of cubes. Nothing is learnt from it."""
    return {
        cube: out(f"labels/{cube}.npz")
        for cube, block in OWN_CUBES.items()
        if block.labels
    }


def largest_jobs():
    """Rule -> memory that its largest job asks for at first, MB, and threads."""
    largest = max(embedded_cubes(), key=megapixels, default=None)
    threads = tiles_at_once(largest)
    jobs = {
        "pin_items": (1000, 1),
        "build_cube": (cube_memory(largest), 1),
        "embed_cube": (embedding_memory(threads), threads),
    }
    if not (C.models or TABLES_ALONE):
        encoder, fusion = max(map(encoder_memory, C.sensors)), fusion_memory()
        for model, memory, processes in (
            ("encoder", encoder, C.training.devices),
            ("fusion", fusion, 1),
        ):
            jobs[f"train_{model}"] = memory, C.training.threads * processes
            jobs[f"evaluate_{model}"] = jobs[f"probe_{model}"] = memory, 1
    return jobs


def job_too_large():
    """The line about jobs that ask for more memory than there is, or nothing."""
    large = {rule: mb for rule, (mb, _) in largest_jobs().items() if mb > SHARED_MB}
    asked = ", ".join(f"{rule} {mb:,} MB" for rule, mb in large.items())
    return (
        f"More memory is asked for than the {SHARED_MB:,} MB that the jobs share: {asked}. Each of "
        "these runs alone, and may be killed; use smaller areas or another machine."
        if large
        else ""
    )
