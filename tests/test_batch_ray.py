"""Tables of try-ons on Ray: the storage, the stages in this process, and a real cluster of two workers."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import styletryon
from styletryon import cli
from styletryon.batch import BatchRow, BatchSummary, RowOutcome, read_table, try_on_table
from styletryon.batch.storage import Folder, fetched, folder_of, joined
from styletryon.data import paperdoll
from styletryon.errors import ConfigError, DataError, DependencyError, RangeError
from tests._support.people import photographed
from tests._support.process import ROOT, SOURCE, descendants

ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
engine = pytest.importorskip("styletryon.batch.ray")
parquet = pytest.importorskip("pyarrow.parquet")
arrow = pytest.importorskip("pyarrow")
fsspec = pytest.importorskip("fsspec")

ANYTHING = "+".join(str(number) for number in range(1, 12))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = photographed(tmp_path_factory.mktemp("photos"), 4)
    (folder / "broken.json").write_bytes((folder / "1.json").read_bytes())
    return folder


@pytest.fixture
def bucket() -> Iterator[str]:
    """A folder of an object store, which is this process's memory."""
    yield "memory://bucket/tryons"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def rows_of(folder: str | Path, pairs: list[tuple[str, str]]) -> list[BatchRow]:
    """Rows of persons and garments, whose poses are known."""
    return [
        BatchRow(
            line, joined(folder, f"{person}.png"), joined(folder, f"{garment}.png"), ANYTHING, f"{line}.png",
            joined(folder, f"{person}.json"), joined(folder, f"{garment}.json"),
        )
        for line, (person, garment) in enumerate(pairs, 2)
    ]  # fmt: skip


def told(out: str | Path) -> list[dict[str, Any]]:
    """The rows of the table of outcomes."""
    with fetched(joined(out, "outcomes.parquet")) as file:
        return parquet.read_table(file).to_pylist()


class TestFolder:
    @pytest.fixture(params=["disk", "memory"])
    def place(self, request: pytest.FixtureRequest, tmp_path: Path, bucket: str) -> str | Path:
        fsspec.filesystem("memory").makedirs("/bucket")
        return tmp_path / "out" if request.param == "disk" else bucket

    def test_what_is_written_is_read(self, place: str | Path) -> None:
        folder = Folder(place)
        assert folder.names() == set()
        with pytest.raises(FileNotFoundError):
            folder.read("a/b.txt")
        (folder / "a").write("b.txt", lambda path: _save(path, b"1"))
        folder.write("c.txt", lambda path: _save(path, b"2"))
        assert folder.names() == {"a/b.txt", "c.txt"}
        assert folder.has("a/b.txt")
        assert not folder.has("a")
        assert folder.read("a/b.txt") == b"1"
        with folder.fetched("c.txt") as file:
            assert (file.name, file.read_bytes()) == ("c.txt", b"2")
        folder.remove("c.txt")
        assert folder.names() == {"a/b.txt"}

    def test_names_are_those_beside_the_table(self) -> None:
        assert joined("s3://b/t", "x.png") == "s3://b/t/x.png"
        assert joined("s3://b/t", "gs://c/x.png") == "gs://c/x.png"
        assert joined(Path("t"), "x.png") == Path("t/x.png")
        assert joined(Path("t"), "s3://b/x.png") == "s3://b/x.png"
        assert joined(Path("t"), "/x.png") == Path("/x.png")
        assert folder_of("s3://b/t/table.csv") == "s3://b/t"
        assert folder_of("file:///b/table.csv") == Path("/b")

    def test_what_is_unknown_or_missing_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigError, match="expected a path, or a URL of a file system that fsspec knows"):
            Folder("nothing://x")

        def missing(_: str) -> None:
            raise ImportError("Install s3fs to access S3")

        monkeypatch.setattr("fsspec.core.url_to_fs", missing)
        with pytest.raises(DependencyError, match="Install s3fs"):
            Folder("s3://x")


def _save(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


class TestTables:
    def test_parquet_reads_as_csv_does(self, tmp_path: Path) -> None:
        cells = {"person": ["a.png", "b.png"], "garment": ["c.png", "s3://d/e.png"], "region": ["bottom", None]}
        parquet.write_table(arrow.table(cells), tmp_path / "table.parquet")
        with open(tmp_path / "table.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(cells)
            writer.writerows(zip(*cells.values(), strict=True))
        rows = read_table(tmp_path / "table.parquet")
        assert rows == read_table(tmp_path / "table.csv")
        assert [row.region for row in rows] == ["bottom", "top"]
        assert [row.garment for row in rows] == [tmp_path / "c.png", "s3://d/e.png"]

    def test_a_table_of_an_object_store(self, bucket: str) -> None:
        with fsspec.open(f"{bucket}/table.csv", "w") as file:
            file.write("person,garment\na.png,/b.png\n")
        (row,) = read_table(f"{bucket}/table.csv")
        assert (row.person, row.garment) == (f"{bucket}/a.png", "/b.png")

    def test_what_is_no_table(self, tmp_path: Path, bucket: str) -> None:
        (tmp_path / "table.parquet").write_bytes(b"none")
        with pytest.raises(DataError, match=r"^table: expected a Parquet file"):
            read_table(tmp_path / "table.parquet")
        fsspec.filesystem("memory").makedirs("/bucket")
        with pytest.raises(DataError, match=r"^table: cannot read 'memory://bucket/tryons/no\.csv'"):
            read_table(f"{bucket}/no.csv")

    def test_the_local_engine_writes_here_alone(self, photos: Path, bucket: str) -> None:
        fsspec.filesystem("memory").makedirs("/bucket")
        with pytest.raises(ConfigError, match=r"^out: expected a folder of this machine"):
            try_on_table(rows_of(photos, [("0", "1")]), bucket)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let one worker of each stage do its items here, batch by batch; what they were given is listed."""
    given: list[str] = []

    def stream(_ray: Any, _pool: Any, setup: Any, worker: Any, batches: list[list[str]]) -> Iterator[list[str]]:
        for batch in batches:
            given.extend(batch)
            (made,) = worker(setup)({"batch": [json.dumps(batch)]})["batch"]
            yield json.loads(made)

    monkeypatch.setattr(engine, "_stream", stream)
    monkeypatch.setattr(engine, "_running", lambda *_: nullcontext())
    return given


def run(rows: Any, out: str | Path, model: Path, **options: Any) -> BatchSummary:
    return engine.try_on_dataset(
        rows, out, **{"model": model, "num_gpus": 0, "preset": "fast", "batch_size": 2, **options}
    )


class TestStages:
    """What the stages do, without Ray; all files in an object store."""

    def test_photographs_are_projected_once_and_rows_go_on(
        self, photos: Path, bucket: str, in_this_process: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fsspec.filesystem("memory").put(f"{photos}/", "/bucket/photos", recursive=True)
        rows = rows_of("memory://bucket/photos", [("0", "1"), ("1", "0"), ("0", "broken"), ("1", "missing")])
        ticks: list[tuple[str, int, int]] = []
        fetches: Counter[str] = Counter()
        store = type(fsspec.filesystem("memory"))
        get_file = store.get_file

        def counted(self: Any, place: str, *rest: Any, **options: Any) -> Any:
            fetches[place] += 1
            return get_file(self, place, *rest, **options)

        monkeypatch.setattr(store, "get_file", counted)
        summary = run(rows, bucket, photos / "model", progress=lambda *tick: ticks.append(tick))
        # By each worker once for what it is, and once for its picture; one worker a batch, of which there are three.
        assert max(fetches["/bucket/photos/0.png"], fetches["/bucket/photos/1.png"]) <= 2 * 3
        assert (summary.done, len(summary.failed), summary.waiting) == (2, 2, 0)
        assert [outcome.reason.split(": ")[0] for outcome in summary.failed] == [
            "broken.png", "memory://bucket/photos/missing.png",
        ]  # fmt: skip
        assert (ticks[0], ticks[-1]) == (("projecting", 2, 4), ("dressing", 4, 4))
        # Four photographs were looked at, two of them as a person and as the wearer of a garment, which is one
        # projection; and two rows came to be dressed: once each.
        assert len(in_this_process) == len(set(in_this_process)) == 8
        files = Folder(bucket).names()
        assert {"2.png", "3.png", "settings.json", "outcomes.parquet"} <= files
        assert len([name for name in files if name.endswith(".safetensors")]) == 2
        assert not [name for name in files if name.startswith("rows/")]
        cells = told(bucket)
        assert [(one["line"], one["status"]) for one in cells] == [
            (2, "done"), (3, "done"), (4, "failed"), (5, "failed"),
        ]  # fmt: skip
        assert json.loads(cells[0]["report"]).keys() >= {"seconds", "person_reconstruction_psnr"}
        assert cells[0]["person"] == "memory://bucket/photos/0.png"

        def never(*_: object, **__: object) -> None:
            raise AssertionError("this is done")

        in_this_process.clear()
        assert run(rows, bucket, photos / "model") == summary
        assert not in_this_process
        monkeypatch.setattr("styletryon.LatentProjector.project_each", never)
        Folder(bucket).remove("3.png")  # a picture that was lost is made again, of latents that are kept
        with fsspec.open("memory://bucket/photos/broken.png", "wb") as file:
            file.write((photos / "1.png").read_bytes())
        again = run(rows, bucket, photos / "model", retry_failed=True)
        assert [outcome.status for outcome in again.outcomes] == ["done", "done", "done", "failed"]
        assert len(told(bucket)) == 4

    def test_a_batch_that_kills_its_workers_is_given_up(self, photos: Path, tmp_path: Path) -> None:
        pipeline = styletryon.TryOnPipeline(photos / "model")
        setup = {
            "model": pipeline.model, "options": {"preset": "fast"}, "fingerprint": pipeline.model.fingerprint,
            "device": "cpu", "out": tmp_path, "detail": True, "run": "one",
        }  # fmt: skip
        (row,) = rows_of(photos, [("0", "1")])
        shot = engine._photographs(row)[0]
        for kind, item in ((engine._Projecting, shot), (engine._Dressing, engine._text(asdict(row)))):
            worker, table = kind(setup), {"batch": [json.dumps([item])]}

            def die(_: object) -> None:
                raise SystemExit

            worker.work = die
            for _ in range(engine._TRIES):
                with pytest.raises(SystemExit):
                    worker(table)
            ((made,),) = map(json.loads, worker(table)["batch"])
            assert "4 workers died of its batch" in made
        assert json.loads(made)["key"] == row.key
        with pytest.raises(ConfigError, match=r"^model: expected the same model on every machine"):
            engine._Dressing({**setup, "fingerprint": "another"})

    def test_rows_of_another_table_keep_their_outcomes(
        self, photos: Path, tmp_path: Path, in_this_process: list[str]
    ) -> None:
        first, second = rows_of(photos, [("0", "1"), ("1", "0")])
        first = replace(first, out="./a.png")
        run([first], tmp_path, photos / "model")
        assert run([second], tmp_path, photos / "model").done == 1
        assert len(told(tmp_path)) == 2
        in_this_process.clear()
        assert run([first], tmp_path, photos / "model").done == 1
        assert not in_this_process  # whichever way its name is written

    def test_an_outfit_names_several_photographs(
        self, photos: Path, tmp_path: Path, in_this_process: list[str]
    ) -> None:
        worn = {"top": photos / "1.png", "bottom": photos / "missing.png"}
        row = BatchRow(2, photos / "0.png", worn, "", "a.png", photos / "0.json", {"top": photos / "1.json"})
        summary = run([row], tmp_path, photos / "model")
        assert len(in_this_process) == 3
        assert "missing.png: No such file" in summary.failed[0].reason
        (cells,) = told(tmp_path)
        assert json.loads(cells["garment"]) == {region: str(place) for region, place in worn.items()}

    def test_rows_are_read_as_by_the_local_engine(
        self, photos: Path, tmp_path: Path, in_this_process: list[str]
    ) -> None:
        figure = paperdoll.sample_figure(900)
        Image.fromarray(paperdoll.lay_flat(figure, "top", (320, 320)).image).save(tmp_path / "shirt.png")
        rows = [
            BatchRow(line, photos / "0.png", tmp_path / "shirt.png", region, f"{region}.png", photos / "0.json")
            for line, region in enumerate(["outerwear", "bottom"])
        ]
        rows.append(replace(rows[0], line=2, garment=photos / "broken.png", out="broken.png"))
        here = try_on_table(rows, tmp_path / "local", preset="fast", batch_size=1)
        summary = engine.try_on_dataset(rows, tmp_path / "ray", num_gpus=0, preset="fast", batch_size=1)
        assert [(one.status, one.reason) for one in summary.outcomes] == [
            (one.status, one.reason) for one in here.outcomes
        ]
        assert [one.status for one in here.outcomes] == ["done", "failed", "failed"]
        assert here.outcomes[2].reason.startswith("broken.png: ")
        with Image.open(tmp_path / "local/outerwear.png") as one, Image.open(tmp_path / "ray/outerwear.png") as other:
            assert np.array_equal(np.asarray(one), np.asarray(other))

    def test_the_engines_do_not_mix(self, photos: Path, tmp_path: Path, in_this_process: list[str]) -> None:
        rows = rows_of(photos, [("0", "1")])
        run(rows, tmp_path, photos / "model")
        with pytest.raises(ConfigError, match=r"^out: expected a folder of results with"):
            try_on_table(rows, tmp_path, model=photos / "model", preset="fast")


class Cluster:
    """What `_Pool.check_room` asks of Ray: two machines of 4 cores, one with a GPU."""

    def __init__(self, free: dict[str, float]) -> None:
        self.free = free

    def nodes(self) -> list[dict[str, Any]]:
        machines = [{"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}]
        return [{"Alive": True, "Resources": one} for one in machines] + [{"Alive": False, "Resources": {"CPU": 99.0}}]

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8.0, "GPU": 1.0}

    def available_resources(self) -> dict[str, float]:
        return self.free


class TestRoom:
    """A cluster without room is told, and not waited for without end."""

    @pytest.mark.parametrize(
        ("workers", "gpus", "cpus", "room"),
        [
            (8, 0, 1, None),
            (9, 0, 1, 8),
            (2, 0, 4, None),
            (2, 0, 3, None),
            (3, 0, 2.5, 2),  # three would fit into all cores together, but not into the machines
            (2, 0.5, 1, None),
            (2, 1, 1, 1),
        ],
    )
    def test_room_is_counted_by_machines(
        self, workers: int, gpus: float, cpus: float, room: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine, "_ROOM_S", 0.0)
        pool = engine._Pool.checked(workers, gpus, cpus, 0)
        cluster = Cluster({"CPU": 8.0, "GPU": 1.0})
        if room is None:
            pool.check_room(cluster)
            return
        with pytest.raises(ConfigError, match=rf"^workers: expected .* room for {workers} .* got room for {room} "):
            pool.check_room(cluster)

    def test_what_others_hold_is_no_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine, "_ROOM_S", 0.0)
        with pytest.raises(ConfigError, match=r"0 of 8 CPUs free"):
            engine._Pool.checked(1, 0, 1, 0).check_room(Cluster({"GPU": 1.0}))

    @pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": (3, 2)}, {"num_gpus": -1}, {"num_cpus": 0}])
    def test_numbers_that_make_no_sense(self, wrong: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(RangeError, match=f"^{next(iter(wrong))}: "):
            engine.try_on_dataset("table.csv", tmp_path, **wrong)


class TestCommand:
    def ended(self, arguments: list[str], tmp_path: Path) -> int:
        (tmp_path / "table.csv").write_text("person,garment\n")
        table, out = str(tmp_path / "table.csv"), str(tmp_path / "out")
        return cli.main(["try-on-batch", table, "-o", out, "--quiet", *arguments])

    @pytest.mark.parametrize(
        ("statuses", "waiting", "status"), [(["done"], 0, 0), (["done", "failed"], 0, 1), (["done"], 1, 1)]
    )
    def test_it_asks_ray_and_says_how_it_went(
        self, statuses: list[Any], waiting: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = SimpleNamespace()

        def answer(**options: Any) -> BatchSummary:
            vars(asked).update(options)
            return BatchSummary(tuple(RowOutcome(f"{n}", n, one) for n, one in enumerate(statuses)), waiting)

        monkeypatch.setattr(engine, "try_on_dataset", answer)
        given = ["--engine", "ray", "--workers", "2:4", "--num-gpus", "0", "--wait", "9", "--preset", "fast"]
        assert self.ended(given, tmp_path) == status
        assert (asked.workers, asked.num_gpus, asked.wait_s, asked.preset) == ((2, 4), 0.0, 9.0, "fast")
        assert not hasattr(asked, "num_cpus")

    @pytest.mark.parametrize("arguments", [["--engine", "ray", "--device", "cpu"], ["--workers", "2"]])
    def test_options_of_the_other_engine_are_refused(
        self, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.ended(arguments, tmp_path) == 2
        assert f"{arguments[-2]}: expected no such option with --engine" in capsys.readouterr().err


def workers() -> dict[int, str]:
    """The processes that Ray made workers of here: number -> what they are."""
    return {number: title for number, title in descendants(os.getpid()).items() if title.startswith("ray::")}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of as many cores as there are workers: nothing else can have one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setenv("PYTHONPATH", f"{SOURCE}{os.pathsep}{ROOT}")
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
        yield
        ray.shutdown()


class Sleeper:
    """A worker that takes its time, and says which process it is."""

    def __init__(self, setup: object) -> None:
        pass

    def __call__(self, table: dict[str, Any]) -> dict[str, list[str]]:
        time.sleep(1.0)
        return {"batch": [json.dumps([str(os.getpid())]) for _ in table["batch"]]}


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*")
def test_a_pool_grows_where_there_is_room(cluster: None) -> None:
    """It begins with the least workers, and ends with as many as there is room for."""
    pool = engine._Pool.checked((1, 8), 0, 1, 0)
    batches = engine._stream(ray, pool, {}, Sleeper, [[str(number)] for number in range(30)])
    processes = [process for (process,) in batches]
    assert len(processes) == 30
    assert len(set(processes)) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*")  # Ray copies its settings, the deprecated ones too
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the workers' processes by /proc")
def test_a_worker_is_killed_and_no_row_is_lost_or_done_twice(photos: Path, tmp_path: Path, cluster: None) -> None:
    people = [(str(a), str(b)) for a in range(4) for b in range(4) if a != b]
    rows = rows_of(photos, [*people, ("0", "broken")])
    killed: list[int] = []
    busy: set[int] = set()

    def kill_one(stage: str, done: int, _: int) -> None:
        now = {number for number, title in workers().items() if "_Dressing" in title}
        busy.update(now)
        if stage == "dressing" and not killed:
            assert now, workers()
            killed.append(min(now))
            os.kill(killed[0], signal.SIGKILL)

    summary = run(rows, tmp_path, photos / "model", workers=2, progress=kill_one)
    assert killed
    assert len(busy - set(killed)) >= 1
    assert (summary.done, len(summary.failed), summary.waiting) == (12, 1, 0)
    assert sorted(one["line"] for one in told(tmp_path)) == [row.line for row in rows]
    assert {path.name for path in tmp_path.glob("*.png")} == {row.out for row in rows[:-1]}
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    latents = {path: path.stat().st_mtime_ns for path in (tmp_path / "latents").iterdir()}
    assert len(latents) == 3 * 4

    # A resumed run on a full cluster ends, and does what is missing alone.
    lost = tmp_path / rows[3].out
    lost.unlink()
    del written[lost]
    ticks: list[tuple[str, int, int]] = []
    again = run(rows, tmp_path, photos / "model", workers=2, progress=lambda *tick: ticks.append(tick))
    assert again.done == 12
    assert ticks[-1] == ("dressing", 1, 1)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert {path: path.stat().st_mtime_ns for path in latents} == latents
    assert lost.is_file()

    # More workers than the cluster can hold are refused.
    with pytest.raises(ConfigError, match=r"^workers: expected a cluster with room for 3 workers"):
        run(rows, tmp_path, photos / "model", workers=3, retry_failed=True)
