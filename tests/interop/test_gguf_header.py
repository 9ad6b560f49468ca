"""The header of a GGUF file: read as the package does, and a clear error for each damage."""

import contextlib
import struct

import gguf
import numpy as np
import pytest
from gguf_files import key, raw, record, text
from hypothesis import given, settings
from hypothesis import strategies as st

from lilith.interop.gguf_header import open_file, read_header
from lilith.interop.weights import ImportFailed

ARCHITECTURE = key("general.architecture", "s", "llama")
ONE = record("a", (4,))  # of 16 bytes


def read(data):
    return read_header(data, "m.gguf")


def test_reads_what_the_gguf_package_writes(tmp_path):
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for letter, value in (("uint8", 200), ("int8", -3), ("uint16", 60_000), ("int16", -300),
                          ("uint32", 1 << 31), ("int32", -5), ("uint64", 1 << 60),
                          ("int64", -(1 << 50)), ("float32", 0.5), ("float64", 1e-5),
                          ("bool", True), ("string", "caf\u00e9")):  # fmt: skip
        getattr(writer, f"add_{letter}")(f"x.{letter}", value)
    writer.add_array("x.words", ["a", "", "\u2581b"])
    writer.add_array("x.flags", [True, False])
    writer.add_array("x.numbers", [1.5, -2.0])
    matrix = np.arange(64, dtype=np.float32).reshape(2, 32)
    writer.add_tensor("m", matrix)
    writer.add_tensor("q", gguf.quants.quantize(matrix, gguf.GGMLQuantizationType.Q8_0),
                      raw_dtype=gguf.GGMLQuantizationType.Q8_0)  # fmt: skip
    writer.add_custom_alignment(64)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    data = open_file(path)
    header = read_header(data, "a.gguf")
    reader = gguf.GGUFReader(path)
    for name, field in reader.fields.items():
        if not name.startswith("GGUF."):
            value = header.metadata.values[name]
            assert (value.tolist() if isinstance(value, np.ndarray) else value) == field.contents()
    for tensor in reader.tensors:
        found = header.tensors[tensor.name]
        assert found.kind == tensor.tensor_type
        assert found.shape == tuple(reversed(tensor.shape.tolist()))
        assert (found.start, found.bytes) == (tensor.data_offset, tensor.n_bytes)
    m = header.tensors["m"]
    assert bytes(data[m.start : m.start + m.bytes]) == matrix.tobytes()


def test_a_float_is_the_decimal_that_was_meant():
    found = read(raw([key("x", "f", 1e-5), key("y", "d", 1e-5)])).metadata
    assert (found.real("x"), found.real("y")) == (1e-5, 1e-5)


SAFETENSORS = struct.pack("<Q", 20) + b'{"a": 1}' + bytes(40)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (SAFETENSORS, "safetensors"),
        (b"lmgg" + bytes(100), "before GGUF"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x80\x02}q\x00", "pickle"),
        (b"\x1f\x8b\x08" + bytes(20), "gzip"),
        (b'{"model_type": "llama"}', "JSON"),
        (b"GGU", r"starts with b'GGU'"),
        (b"", "empty"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(16), "big-endian"),
        (raw([], version=1), "version 1"),
        (raw([], version=4), "version 4"),
        (b"GGUF" + bytes(20), "version 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_file_of_another_kind_says_what_it_is(tmp_path, data, words):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ImportFailed, match=words) as caught:
        read_header(open_file(path), str(path))
    assert str(path) in str(caught.value)


HUGE = 1 << 62


DAMAGE = {
    "keys": (raw([ARCHITECTURE], keys_count=HUGE), "no model has over"),
    "many keys": (raw([ARCHITECTURE], keys_count=60_000), "60000 keys"),
    "tensors": (raw([], [ONE], bytes(16), tensors=HUGE), "no model has over"),
    "many tensors": (raw([], [ONE], tensors=9), "9 tensors takes"),
    "one more key": (raw([ARCHITECTURE], keys_count=2), "metadata key 1"),
    "key length": (raw([struct.pack("<Q", HUGE) + bytes(40)]), "metadata key 0"),
    "string": (raw([text("x") + struct.pack("<IQ", 8, HUGE)]), "'x'"),
    "array": (raw([text("x") + struct.pack("<IIQ", 9, 4, HUGE)]), "'x' of 4611"),
    "array of strings": (raw([text("x") + struct.pack("<IIQ", 9, 8, HUGE)]), "4194304 strings"),
    "long array": (raw([text("x") + struct.pack("<IIQ", 9, 8, 4000)]), "'x' of 4000"),
    "item": (raw([text("x") + struct.pack("<IIQQ", 9, 8, 1, HUGE)]), "item 0 of 'x'"),
    "nested": (raw([text("x") + struct.pack("<IIQ", 9, 9, 1) + bytes(30)]), "unknown type 9"),
    "value type": (raw([text("x") + struct.pack("<I", 77) + bytes(30)]), "unknown type 77"),
    "truth": (raw([text("x") + struct.pack("<IB", 7, 2)]), "truth value of 2"),
    "not UTF-8": (raw([key("x", "s", b"\xff\xfe")]), "'x' is not UTF-8"),
    "item not UTF-8": (raw([key("x", "[s", [b"a", b"\xff"])]), "item 1 of 'x'"),
    "twice": (raw([ARCHITECTURE, ARCHITECTURE]), "appears twice"),
    "no name": (raw([key("", "B", 1)]), "0 characters"),
    "dimensions": (raw([], [record("a", (1,) * 5)], bytes(64)), "5 dimensions"),
    "no dimensions": (raw([], [record("a", ())], bytes(64)), "0 dimensions"),
    "empty": (raw([], [record("a", (4, 0))], bytes(64)), r"shape \[0, 4\]"),
    "large": (raw([], [record("a", (1 << 63, 1 << 63))], bytes(64)), "the tensor 'a' takes"),
    "unknown": (raw([], [record("a", (4,), 99)], bytes(64)), "'a' has the unknown type 99"),
    "blocks": (raw([], [record("a", (33,), 8)], bytes(64)), "blocks of 32 of its type Q8_0"),
    "offset": (raw([], [record("a", (4,), 0, 64)], bytes(64)), "the tensor 'a' takes 16"),
    "far": (raw([], [record("a", (4,), 0, HUGE)], bytes(64)), "the tensor 'a' takes 16"),
    "unaligned": (raw([], [record("a", (4,), 0, 8)], bytes(64)), "not aligned to 32"),
    "same name": (raw([], [ONE, record("a", (4,), 0, 32)], bytes(64)), "'a' appears twice"),
    "overlap": (raw([], [record("a", (9,)), record("b", (1,), 0, 32)], bytes(64)), "overlap"),
    "alignment": (raw([key("general.alignment", "I", 48)]), "general.alignment is 48"),
    "alignment 0": (raw([key("general.alignment", "I", 0)]), "general.alignment is 0"),
    "alignment text": (raw([key("general.alignment", "s", "32")]), "general.alignment is '32'"),
    }  # fmt: skip


@pytest.mark.parametrize(("data", "words"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named(data, words):
    with pytest.raises(ImportFailed, match=words) as caught:
        read(data)
    assert "m.gguf" in str(caught.value)


def test_a_file_cut_anywhere_in_its_header_or_tensors():
    whole = raw([ARCHITECTURE, key("x", "[s", ["a", "bc"])], [record("a", (40,))], bytes(160))
    assert set(read(whole).tensors) == {"a"}
    for size in range(len(whole)):
        with pytest.raises(ImportFailed, match=r"m\.gguf"):
            read(whole[:size])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_after_the_magic_are_read_or_refused(data):
    with contextlib.suppress(ImportFailed):
        read(b"GGUF\x03\0\0\0" + data)


def test_a_file_that_can_not_be_opened(tmp_path):
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ImportFailed, match="can not be read"):
            open_file(path)


@pytest.mark.parametrize(
    ("method", "value", "words"),
    [
        ("integer", "7", "a whole number"),
        ("integer", -1, "from 0 up"),
        ("integer", 1 << 40, "a whole number"),
        ("integer", True, "a whole number"),
        ("integer", np.array([1, 2]), "an array of 2"),
        ("real", float("nan"), "finite"),
        ("real", "x", "finite"),
        ("text", 3, "a string"),
        ("strings", "x", "an array of strings"),
        ("numbers", ["x"], "an array of numbers"),
    ],
)
def test_a_key_of_the_wrong_type(method, value, words):
    metadata = read(raw([])).metadata
    with pytest.raises(ImportFailed, match=r"m\.gguf lacks the metadata key 'k'"):
        getattr(metadata, method)("k")
    metadata.values["k"] = value
    with pytest.raises(ImportFailed, match=words):
        getattr(metadata, method)("k")


def test_an_array_that_repeats_a_number_counts_as_the_number():
    assert read(raw([key("k", "[I", [4, 4, 4])])).metadata.integer("k") == 4
