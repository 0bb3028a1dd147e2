from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megatron_redone.common.errors import DataError
from megatron_redone.curation.regmix.tables import (
    column_called,
    read_losses,
    read_mixtures,
    read_prior,
    read_table,
    write_prior,
    write_table,
)

MIXTURES = "index,web,chat\n1,0.25,0.75\n2,0.5,0.5\n"


def file(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_written_table_is_read_back_bit_by_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(5, 3))
    write_table(tmp_path / "t.csv", list("abcde"), ["x", "y,z", 'q"'], values)
    table = read_table(tmp_path / "t.csv")
    assert (table.names, table.columns) == (tuple("abcde"), ("x", "y,z", 'q"'))
    np.testing.assert_array_equal(table.values, values)
    assert table.row(2)["y,z"] == values[2, 1]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", r":1: the header begins with \[\]"),
        ("web,chat\n0.1,0.9\n", ":1: the header"),
        ("index,web,web\n1,0.1,0.9\n", ":1: a column .* stands twice"),
        ("index,web,\n1,0.1,0.9\n", ":1: a column without a name"),
        ("index,web,chat\n", "no runs"),
        (MIXTURES + "3,1.0\n", ":4: 2 values for 3 columns"),
        (MIXTURES + "2,0.1,0.9\n", ":4: run '2' stands on line 3 too"),
        (MIXTURES + "3,nan,1.0\n", ":4: web='nan' is no finite number"),
        (MIXTURES + "3,inf,1.0\n", ":4: web='inf'"),
        (MIXTURES + "3,0.5,half\n", ":4: chat='half'"),
        (MIXTURES + "3,,1.0\n", ":4: web=''"),
        (b"index,web,chat\n1,\xff,1.0\n", "not UTF-8 at byte 17"),
        ('index,web,chat\n1,"0.5"x,0.5\n', "not CSV"),
    ],
)
def test_a_broken_table_is_refused_with_file_and_line(tmp_path: Path, text: str | bytes, rule: str) -> None:
    with pytest.raises(DataError, match=r"table\.csv.*" + rule if not rule.startswith(":") else r"table\.csv" + rule):
        read_table(file(tmp_path, text))


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("line", "rule"),
    [("3,0.6,0.6", r"run '3' add up to 1\.2, not to 1"), ("3,-0.2,1.2", r"run '3' has the weight -0\.2")],
)
def test_what_is_no_mixture_is_refused(tmp_path: Path, line: str, rule: str) -> None:
    with pytest.raises(DataError, match=rule):
        read_mixtures(file(tmp_path, MIXTURES + line + "\n"), 0.005)


def test_the_published_rounding_is_within_the_tolerance(tmp_path: Path) -> None:
    path = file(tmp_path, MIXTURES + "3,0.333,0.664\n")
    assert len(read_mixtures(path, 0.005).names) == 3
    with pytest.raises(DataError, match=r"within 0\.001"):
        read_mixtures(path, 0.001)


def test_losses_are_put_into_the_order_of_the_mixtures(tmp_path: Path) -> None:
    mixtures = read_mixtures(file(tmp_path, MIXTURES), 0.005)
    losses = read_losses(file(tmp_path, "index,loss\n2,20\n1,10\n", "losses.csv"), mixtures)
    assert losses.names == ("1", "2")
    assert losses.values[:, 0].tolist() == [10, 20]


@pytest.mark.parametrize("runs", ["1,10\n", "1,10\n2,20\n3,30\n"])
def test_tables_of_different_runs_are_refused(tmp_path: Path, runs: str) -> None:
    mixtures = read_mixtures(file(tmp_path, MIXTURES), 0.005)
    with pytest.raises(DataError, match=r"no run '[23]'"):
        read_losses(file(tmp_path, "index,loss\n" + runs, "losses.csv"), mixtures)


def test_a_target_is_a_column_or_a_part_of_one_name(tmp_path: Path) -> None:
    columns = ["metric/pile_cc_loss", "metric/arxiv_loss", "arxiv"]
    assert column_called("pile_cc", columns, tmp_path) == "metric/pile_cc_loss"
    assert column_called("arxiv", columns, tmp_path) == "arxiv"
    with pytest.raises(DataError, match="a part of 2 of them"):
        column_called("metric", columns, tmp_path)
    with pytest.raises(DataError, match="none of them nor a part of one"):
        column_called("weibo", columns, tmp_path)


def test_the_prior_is_kept_beside_the_mixtures(tmp_path: Path) -> None:
    assert read_prior(tmp_path) is None
    write_prior(tmp_path, {"a": 0.25, "b": 0.75})
    assert read_prior(tmp_path) == {"a": 0.25, "b": 0.75}
    for broken in ("[1]", "{", '{"a": 0}', '{"a": NaN}', '{"a": "x"}'):
        (tmp_path / "prior.json").write_text(broken)
        with pytest.raises(DataError, match=r"prior\.json"):
            read_prior(tmp_path)
