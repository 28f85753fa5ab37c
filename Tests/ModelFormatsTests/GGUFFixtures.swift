import Foundation
import TestSupport

/// A builder of GGUF files, independent of the engine's writer, that also builds wrong ones.
struct GGUFFixture {
  /// A metadata value: its type and its bytes.
  struct Value {
    var type: UInt32
    var bytes: [UInt8]

    static func u8(_ value: UInt8) -> Value { Value(type: 0, bytes: [value]) }
    static func u16(_ value: UInt16) -> Value { Value(type: 2, bytes: little(value)) }
    static func u32(_ value: UInt32) -> Value { Value(type: 4, bytes: little(value)) }
    static func i32(_ value: Int32) -> Value { Value(type: 5, bytes: little(value)) }
    static func u64(_ value: UInt64) -> Value { Value(type: 10, bytes: little(value)) }
    static func i64(_ value: Int64) -> Value { Value(type: 11, bytes: little(value)) }
    static func f32(_ value: Float) -> Value { Value(type: 6, bytes: little(value.bitPattern)) }
    static func f64(_ value: Double) -> Value { Value(type: 12, bytes: little(value.bitPattern)) }
    static func bool(_ value: Bool) -> Value { Value(type: 7, bytes: [value ? 1 : 0]) }
    static func text(_ value: String) -> Value { Value(type: 8, bytes: string(value)) }

    /// A list of values of one type.
    static func list(_ type: UInt32, _ values: [Value], announced: UInt64? = nil) -> Value {
      Value(type: 9, bytes: little(type) + little(announced ?? UInt64(values.count)) + values.flatMap(\.bytes))
    }
    static func texts(_ values: [String]) -> Value { list(8, values.map(text)) }
    static func floats(_ values: [Float]) -> Value { list(6, values.map(f32)) }
    static func integers(_ values: [Int32]) -> Value { list(5, values.map(i32)) }
  }

  struct Tensor {
    var name: String
    /// Columns first, as in the file.
    var dims: [UInt64]
    var type: UInt32 = 0
    var data: [UInt8]
    /// `nil` to follow the tensor before.
    var offset: UInt64?
    var dimensionCount: UInt32?

    /// A tensor of F32 values, counted upwards.
    init(_ name: String, _ dims: [UInt64], type: UInt32 = 0, byteCount: Int? = nil, offset: UInt64? = nil) {
      let count = dims.reduce(1) { $0 &* Int(truncatingIfNeeded: $1) }
      (self.name, self.dims, self.type, self.offset) = (name, dims, type, offset)
      data =
        byteCount.map { [UInt8](repeating: 0, count: $0) }
        ?? (0..<max(0, min(count, 1 << 16))).flatMap { little(Float($0).bitPattern) }
    }
  }

  var magic = Array("GGUF".utf8)
  var version: UInt32 = 3
  var tensorCount: UInt64?
  var pairCount: UInt64?
  var pairs: [(key: String, value: Value)] = []
  var tensors: [Tensor] = []
  var alignment = 32

  subscript(key: String) -> Value? {
    get { pairs.first { $0.key == key }?.value }
    set {
      let index = pairs.firstIndex { $0.key == key }
      switch (index, newValue) {
      case (let index?, let value?): pairs[index].value = value
      case (nil, let value?): pairs.append((key, value))
      case (let index?, nil): pairs.remove(at: index)
      case (nil, nil): break
      }
    }
  }

  mutating func replace(_ name: String, _ dims: [UInt64]) {
    remove(name)
    tensors.append(Tensor(name, dims))
  }

  mutating func remove(_ name: String) { tensors.removeAll { $0.name == name } }

  var bytes: [UInt8] {
    var head = magic + little(version) + little(tensorCount ?? UInt64(tensors.count))
    head += little(pairCount ?? UInt64(pairs.count))
    for (key, value) in pairs { head += string(key) + little(value.type) + value.bytes }
    var (data, offset): ([UInt8], Int) = ([], 0)
    for tensor in tensors {
      head += string(tensor.name) + little(tensor.dimensionCount ?? UInt32(tensor.dims.count))
      for size in tensor.dims { head += little(size) }
      head += little(tensor.type) + little(tensor.offset ?? UInt64(offset))
      let padding = [UInt8](repeating: 0, count: (alignment - tensor.data.count % alignment) % alignment)
      data += tensor.data + padding
      offset = data.count
    }
    return head + [UInt8](repeating: 0, count: (alignment - head.count % alignment) % alignment) + data
  }
}

func little(_ value: some FixedWidthInteger) -> [UInt8] {
  (0..<value.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}

private func string(_ text: String) -> [UInt8] { little(UInt64(text.utf8.count)) + Array(text.utf8) }

extension GGUFFixture {
  /// A language model of one layer: 8 columns, 2 heads, 5 tokens.
  static func model(_ architecture: String = "llama") -> GGUFFixture {
    var file = GGUFFixture()
    let a = architecture
    file.pairs = [
      ("general.architecture", .text(a)), ("\(a).context_length", .u32(64)), ("\(a).embedding_length", .u32(8)),
      ("\(a).block_count", .u32(1)), ("\(a).feed_forward_length", .u32(6)), ("\(a).attention.head_count", .u32(2)),
      ("\(a).attention.layer_norm_rms_epsilon", .f32(1e-5)),
      ("tokenizer.ggml.tokens", .texts(["<unk>", "<s>", "</s>", "a", "b"])),
    ]
    let layer: [(String, [UInt64])] = [
      ("attn_norm", [8]), ("attn_q", [8, 8]), ("attn_k", [8, 8]), ("attn_v", [8, 8]), ("attn_output", [8, 8]),
      ("ffn_norm", [8]), ("ffn_gate", [8, 6]), ("ffn_up", [8, 6]), ("ffn_down", [6, 8]),
    ]
    file.tensors =
      [Tensor("token_embd.weight", [8, 5]), Tensor("output_norm.weight", [8]), Tensor("output.weight", [8, 5])]
      + layer.map { Tensor("blk.0.\($0).weight", $1) }
    return file
  }

  /// A vision encoder of one layer, 4 columns and 2 × 2 patches, with a projector to 8 columns.
  static func mmproj() -> GGUFFixture {
    var file = GGUFFixture()
    file.pairs = [
      ("general.architecture", .text("clip")), ("clip.has_vision_encoder", .bool(true)),
      ("clip.has_llava_projector", .bool(true)), ("clip.projector_type", .text("mlp")),
      ("clip.vision.image_size", .u32(4)), ("clip.vision.patch_size", .u32(2)),
      ("clip.vision.embedding_length", .u32(4)), ("clip.vision.feed_forward_length", .u32(12)),
      ("clip.vision.block_count", .u32(1)), ("clip.vision.attention.head_count", .u32(2)),
      ("clip.vision.attention.layer_norm_epsilon", .f32(1e-5)),
      ("clip.vision.image_mean", .floats([0.5, 0.25, 0.75])), ("clip.vision.image_std", .floats([0.1, 0.2, 0.3])),
    ]
    var layers: [(String, [UInt64], UInt64)] = ["attn_q", "attn_k", "attn_v", "attn_out"].map { ($0, [4, 4], 4) }
    layers += [("ffn_down", [4, 12], 12), ("ffn_up", [12, 4], 4)]
    var tensors: [(String, [UInt64])] = [
      ("v.class_embd", [4]), ("v.patch_embd.weight", [2, 2, 3, 4]), ("v.position_embd.weight", [4, 5]),
      ("v.pre_ln.weight", [4]), ("v.pre_ln.bias", [4]), ("mm.0.weight", [4, 8]), ("mm.0.bias", [8]),
      ("mm.2.weight", [8, 8]), ("mm.2.bias", [8]),
    ]
    for (name, dims, outputs) in layers {
      tensors += [("v.blk.0.\(name).weight", dims), ("v.blk.0.\(name).bias", [outputs])]
    }
    for name in ["ln1", "ln2"] { tensors += [("v.blk.0.\(name).weight", [4]), ("v.blk.0.\(name).bias", [4])] }
    file.tensors = tensors.map { Tensor($0, $1) }
    return file
  }
}
