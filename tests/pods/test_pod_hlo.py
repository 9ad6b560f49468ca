"""Collectives, loops and memory traffic are read from recorded pieces of compiled modules."""

import math

import pytest

from lilith.pods.collectives import collectives, device_groups, mesh_axes, ring_share
from lilith.pods.hlo import array_bytes, parse
from lilith.pods.traffic import hbm_traffic

MESH = {"data": 1, "fsdp": 8, "context": 1, "tensor": 1, "expert": 1}
SQUARE = {"data": 2, "fsdp": 2, "context": 1, "tensor": 2, "expert": 1}

# Shortened from the v5e program of a two-layer model: an all-gather carried on by a matrix product,
# one that is not, a reduce-scatter as TPUs write it, in a loop of 32 turns.
LOOP = """HloModule jit_train_step, is_scheduled=true

%fused_start (param_0: bf16[1,512,4096]) -> (bf16[1,512,4096], bf16[1,4096,4096], u32[]) {
  %param_0 = bf16[1,512,4096]{2,1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.114 = bf16[1,4096,4096]{2,1,0:T(8,128)(2,1)} all-gather(%param_0), channel_id=42, replica_groups=mesh['axis_0'=8,'axis_1'=1] {'axis_0'}, dimensions={1}, use_global_device_ids=true, frontend_attributes={chain_id="1"}, metadata={op_name="attention/reshard"}
  ROOT %custom-call.18 = (bf16[1,512,4096]{2,1,0}, bf16[1,4096,4096]{2,1,0}, u32[]{:S(2)}) custom-call(%all-gather.114), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.422 (param_0.1: bf16[1,512,4096], param_1: bf16[1,4096,4096], param_2: bf16[2048,4096], param_3: bf16[4096,4096]) -> (f32[2048,4096], bf16[1,512,4096], bf16[1,4096,4096]) {
  %param_2 = bf16[2048,4096]{1,0:T(8,128)(2,1)} parameter(2)
  %param_3 = bf16[4096,4096]{1,0:T(8,128)(2,1)S(1)} parameter(3)
  %convolution.133 = f32[2048,4096]{1,0:T(8,128)} convolution(%param_2, %param_3), dim_labels=bf_io->bf
  %param_0.1 = bf16[1,512,4096]{2,1,0:T(8,128)(2,1)} parameter(0)
  %param_1 = bf16[1,4096,4096]{2,1,0:T(8,128)(2,1)} parameter(1)
  %all-gather.116 = bf16[1,4096,4096]{2,1,0:T(8,128)(2,1)} all-gather(%param_0.1), channel_id=42, replica_groups=mesh['axis_0'=8,'axis_1'=1] {'axis_0'}, dimensions={1}, use_global_device_ids=true, frontend_attributes={chain_id="1"}
  ROOT %tuple.262 = (f32[2048,4096]{1,0:T(8,128)}, bf16[1,512,4096]{2,1,0}, bf16[1,4096,4096]{2,1,0}) tuple(%convolution.133, %param_0.1, %all-gather.116)
}

%fused_done (param_0.2: bf16[1,512,4096], param_1.2: bf16[1,4096,4096]) -> bf16[1,4096,4096] {
  %param_0.2 = bf16[1,512,4096]{2,1,0} parameter(0)
  %param_1.2 = bf16[1,4096,4096]{2,1,0} parameter(1)
  ROOT %all-gather.118 = bf16[1,4096,4096]{2,1,0} all-gather(%param_0.2), channel_id=42, replica_groups=mesh['axis_0'=8,'axis_1'=1] {'axis_0'}, dimensions={1}, frontend_attributes={chain_id="1"}
}

%add (x: bf16[], y: bf16[]) -> bf16[] {
  %x = bf16[] parameter(0)
  %y = bf16[] parameter(1)
  ROOT %sum = bf16[] add(%x, %y)
}

%all-reduce-scatter.1 (input: bf16[4096,4096]) -> bf16[512,4096] {
  %input = bf16[4096,4096]{1,0} parameter(0)
  %all-reduce.65 = bf16[4096,4096]{1,0} all-reduce(%input), channel_id=16, replica_groups={{0,1,2,3,4,5,6,7}}, use_global_device_ids=true, to_apply=%add
  %partition-id.33 = u32[] partition-id()
  ROOT %dynamic-slice.1 = bf16[512,4096]{1,0} dynamic-slice(%all-reduce.65, %partition-id.33, %partition-id.33), dynamic_slice_sizes={512,4096}
}

%slice_layer (stacked: f32[32,512,4096], i: s32[]) -> bf16[1,512,4096] {
  %stacked = f32[32,512,4096]{2,1,0:T(8,128)} parameter(0)
  %i = s32[]{:T(128)S(6)} parameter(1)
  %zero = s32[] constant(0)
  %dynamic-slice.2 = f32[1,512,4096]{2,1,0} dynamic-slice(%stacked, %i, %zero, %zero), dynamic_slice_sizes={1,512,4096}
  ROOT %convert.1 = bf16[1,512,4096]{2,1,0} convert(%dynamic-slice.2)
}

%body (carry: (s32[], f32[32,512,4096], bf16[4096,4096])) -> (s32[], f32[32,512,4096], bf16[4096,4096]) {
  %carry = (s32[]{:T(128)}, f32[32,512,4096]{2,1,0}, bf16[4096,4096]{1,0}) parameter(0)
  %counter = s32[]{:T(128)S(6)} get-tuple-element(%carry), index=0
  %weights = f32[32,512,4096]{2,1,0} get-tuple-element(%carry), index=1
  %x = bf16[4096,4096]{1,0} get-tuple-element(%carry), index=2
  %layer = bf16[1,512,4096]{2,1,0} fusion(%weights, %counter), kind=kLoop, calls=%slice_layer
  %all-gather.219 = bf16[1,4096,4096]{2,1,0} all-gather(%layer), channel_id=41, replica_groups=[1,8]<=[8], dimensions={1}, use_global_device_ids=true, metadata={op_name="mlp/reshard"}
  %async-collective-start = (bf16[1,512,4096]{2,1,0}, bf16[1,4096,4096]{2,1,0}, u32[]{:S(2)}) fusion(%layer), kind=kCustom, calls=%fused_start
  %get-tuple-element.1 = bf16[1,4096,4096]{2,1,0} get-tuple-element(%async-collective-start), index=1
  %fusion.422 = (f32[2048,4096]{1,0}, bf16[1,512,4096]{2,1,0}, bf16[1,4096,4096]{2,1,0}) fusion(%layer, %get-tuple-element.1, %x, %x), kind=kOutput, calls=%async_collective_fusion.422
  %get-tuple-element.2 = bf16[1,4096,4096]{2,1,0} get-tuple-element(%fusion.422), index=2
  %async-collective-done = bf16[1,4096,4096]{2,1,0} fusion(%layer, %get-tuple-element.2), kind=kCustom, calls=%fused_done
  %fusion.402 = bf16[512,4096]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
  ROOT %tuple.9 = (s32[]{:T(128)}, f32[32,512,4096]{2,1,0}, bf16[4096,4096]{1,0}) tuple(%counter, %weights, %x)
}

%condition (carry.1: (s32[], f32[32,512,4096], bf16[4096,4096])) -> pred[] {
  %carry.1 = (s32[]{:T(128)}, f32[32,512,4096]{2,1,0}, bf16[4096,4096]{1,0}) parameter(0)
  %counter.1 = s32[]{:T(128)} get-tuple-element(%carry.1), index=0
  %limit = s32[]{:T(128)} constant(32)
  ROOT %lt = pred[]{:T(512)} compare(%counter.1, %limit), direction=LT
}

ENTRY %main (p0: (s32[], f32[32,512,4096], bf16[4096,4096])) -> (s32[], f32[32,512,4096], bf16[4096,4096]) {
  %p0 = (s32[]{:T(128)}, f32[32,512,4096]{2,1,0}, bf16[4096,4096]{1,0}) parameter(0)
  %kernel = bf16[8]{0} custom-call(%p0), custom_call_target="tpu_custom_call", backend_config={"custom_call_config":{
"xprof_metadata":"{\\"block_q\\": 512}"
}}, metadata={op_name="splash"}
  ROOT %while.84 = (s32[]{:T(128)}, f32[32,512,4096]{2,1,0}, bf16[4096,4096]{1,0}) while(%p0), condition=%condition, body=%body
}
"""  # noqa: E501

ARRAY = 4096 * 4096 * 2  # bytes


def test_each_collective_of_the_loop_is_found_once_with_its_bytes_axis_and_overlap():
    found = collectives(parse(LOOP), MESH)
    assert [own.times for own in found] == [32, 32, 32]
    assert {own.axes for own in found} == {"fsdp"}
    assert {(own.kind, own.asynchronous, own.overlapped) for own in found} == {
        ("all-gather", False, False),
        ("all-gather", True, True),
        ("reduce-scatter", False, False),
    }
    for own in found:
        assert own.array_bytes == ARRAY
        assert own.wire_bytes == ARRAY * 7 / 8
    assert {own.source for own in found} == {"mlp/reshard", "attention/reshard", ""}


def test_an_asynchronous_collective_without_compute_does_not_overlap():
    text = LOOP.replace("convolution(%param_2, %param_3)", "add(%param_2, %param_3)")
    (own,) = [own for own in collectives(parse(text), MESH) if own.asynchronous]
    assert not own.overlapped


def test_an_asynchronous_reduce_scatter_is_one_though_written_as_an_all_reduce():
    scatter = "fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1"
    text = LOOP.replace(
        f"  %fusion.402 = bf16[512,4096]{{1,0}} {scatter}",
        "  %start = ((bf16[4096,4096]{1,0}), bf16[512,4096]{1,0}, u32[]) async-start(%x), "
        "calls=%async_scatter\n"
        "  %done = bf16[512,4096]{1,0} async-done(%start), calls=%async_scatter",
    ).replace(
        "%slice_layer (",
        "%async_scatter (x: bf16[4096,4096]) -> bf16[512,4096] {\n"
        "  %x = bf16[4096,4096]{1,0} parameter(0)\n"
        f"  ROOT %fusion.9 = bf16[512,4096]{{1,0}} {scatter}\n}}\n\n%slice_layer (",
        1,
    )
    (own,) = [own for own in collectives(parse(text), MESH) if own.kind != "all-gather"]
    assert (own.kind, own.asynchronous, own.overlapped) == ("reduce-scatter", True, False)
    assert (own.array_bytes, own.wire_bytes, own.times) == (ARRAY, ARRAY * 7 / 8, 32)


def test_traffic_of_the_loop_by_hand():
    shard = 512 * 4096
    slice_ = 4 * shard + 2 * shard  # a layer of the stack in float32, its bfloat16 written
    gather = 2 * shard + ARRAY  # alone, reads its shard and writes the whole
    product = ARRAY // 2 + 4 * 2048 * 4096  # one operand is in on-chip memory
    scatter = ARRAY + 2 * shard
    kernel = 16 + 4 + 4 * 32 * shard + ARRAY  # its operand, the tuple, is the whole state
    body = slice_ + gather + (ARRAY + 2 * shard) + product + scatter
    found = hbm_traffic(parse(LOOP))
    assert found == 32 * body + kernel


PAIRS = """HloModule pairs, is_scheduled=true

%wrapped (p: bf16[1024]) -> bf16[256] {
  %p = bf16[1024]{0} parameter(0)
  ROOT %reduce-scatter.1 = bf16[256]{0} reduce-scatter(%p), channel_id=3, replica_groups=[2,4]<=[2,4], dimensions={0}, to_apply=%add
}

%fused_dot (a: bf16[8,8], b: bf16[8,8]) -> bf16[8,8] {
  %a = bf16[8,8]{1,0} parameter(0)
  %b = bf16[8,8]{1,0} parameter(1)
  ROOT %dot.1 = bf16[8,8]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (x: bf16[1024], y: bf16[8,8]) -> bf16[8,8] {
  %x = bf16[1024]{0} parameter(0)
  %y = bf16[8,8]{1,0} parameter(1)
  %all-gather-start = (bf16[1024]{0}, bf16[4096]{0}, u32[]{:S(2)}) all-gather-start(%x), channel_id=1, replica_groups={{0,2,4,6},{1,3,5,7}}, dimensions={0}
  %async-start = ((bf16[1024]{0}), bf16[256]{0}, u32[]) async-start(%x), calls=%wrapped
  %dot_fusion = bf16[8,8]{1,0} fusion(%y, %y), kind=kOutput, calls=%fused_dot
  %all-gather-done = bf16[4096]{0} all-gather-done(%all-gather-start)
  %async-update = ((bf16[1024]{0}), bf16[256]{0}, u32[]) async-update(%async-start)
  %async-done = bf16[256]{0} async-done(%async-update)
  %collective-permute-start = (bf16[1024]{0}, bf16[1024]{0}, u32[], u32[]) collective-permute-start(%x), channel_id=5, source_target_pairs={{0,1},{1,0},{2,3},{3,2}}
  %collective-permute-done = bf16[1024]{0} collective-permute-done(%collective-permute-start)
  %all-reduce.1 = f32[100]{0} all-reduce(%x), channel_id=9, replica_groups={}, to_apply=%add
  ROOT %copy.1 = bf16[8,8]{1,0} copy(%dot_fusion)
}
"""  # noqa: E501


def test_start_and_done_pairs():
    found = {own.kind: own for own in collectives(parse(PAIRS), SQUARE)}
    gather, scatter = found["all-gather"], found["reduce-scatter"]
    assert (gather.axes, gather.group, gather.array_bytes) == ("data+fsdp", 4, 8192)
    assert gather.wire_bytes == 8192 * 3 / 4
    assert gather.overlapped
    assert (scatter.axes, scatter.group, scatter.array_bytes) == ("fsdp+tensor", 4, 2048)
    assert scatter.overlapped
    permute, reduce = found["collective-permute"], found["all-reduce"]
    assert (permute.axes, permute.wire_bytes, permute.asynchronous) == ("tensor", 2048, True)
    assert not permute.overlapped
    assert (reduce.axes, reduce.group) == ("data+fsdp+tensor", 8)
    assert reduce.wire_bytes == 2 * 400 * 7 / 8


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("replica_groups={{0,1},{2,3}}, x={}", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[4], x", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0), x", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=2] {'axis_0'}, x", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=2] {'axis_0','axis_1'}, x", [[0, 1, 2, 3]]),
        (
            "replica_groups=mesh['axis_0'=2,'axis_1'=2], device_ids=([2,2]T(1,0)) {'axis_0'}, x",
            [[0, 1], [2, 3]],
        ),
        ("replica_groups=mesh['a'=4] {'a':(1)2}, x", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=4] {'a':(2)2}, x", [[0, 1], [2, 3]]),
        ("replica_groups={}, x", [[0, 1, 2, 3]]),
        ("nothing of the kind", None),
    ],
)
def test_groups_are_read_however_they_are_printed(text, groups):
    assert device_groups(text, 4) == groups


def test_groups_that_are_no_product_of_axes_have_no_name():
    assert mesh_axes([[0, 1, 2], [3, 4, 5]], SQUARE) == "?"
    assert mesh_axes([[0, 8]], SQUARE) == "?"
    assert mesh_axes(None, SQUARE) == "?"
    assert mesh_axes([[0, 4]], SQUARE) == "data"


def test_a_collective_whose_groups_can_not_be_read_is_not_left_out():
    text = PAIRS.replace("replica_groups={}", "replica_groups=<of a later version>")
    (own,) = [own for own in collectives(parse(text), SQUARE) if own.kind == "all-reduce"]
    assert (own.axes, own.group) == ("?", 8)


def test_ring_shares():
    assert ring_share("all-reduce", 4) == 1.5
    assert ring_share("all-gather", 4) == 0.75
    assert ring_share("collective-permute", 2) == 1


def test_sizes_of_printed_shapes():
    assert array_bytes("bf16[2,3]{1,0:T(8,128)(2,1)}") == 12
    assert array_bytes("(f32[4]{0}, /*index=1*/s4[3]{0}, pred[], token[])") == 16 + 1.5 + 1
    assert array_bytes("(f32[4]{0:T(128)S(1)}, f32[4]{0})", hbm_only=True) == 16


def test_loops_of_unknown_length_turn_as_often_as_one_says():
    text = LOOP.replace("constant(32)", "parameter(1)")
    names = {own.name: times for own, times in parse(text).scheduled()}
    assert names == {"main": 1, "body": 1}
    names = {own.name: times for own, times in parse(text).scheduled((5,))}
    assert names["body"] == 5
    noted = LOOP.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"7"}}')
    assert {own.name: times for own, times in parse(noted).scheduled()}["body"] == 7


def test_lines_that_follow_an_instruction_belong_to_it():
    main = parse(LOOP).computations["main"]
    assert [own.opcode for own in main.instructions] == ["parameter", "custom-call", "while"]
    assert 'op_name="splash"' in main.by_name["kernel"].attributes
    assert math.isfinite(hbm_traffic(parse(PAIRS)))


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY computation"):
        parse("HloModule nothing\n")
