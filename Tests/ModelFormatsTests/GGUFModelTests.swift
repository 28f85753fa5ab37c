import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

private typealias F = GGUFFixture

@Suite struct GGUFModelTests {
  private static func open(_ model: GGUFFixture = F.model(), _ mmproj: GGUFFixture? = F.mmproj()) throws -> GGUFModel {
    try GGUFModel(
      "m", model: GGUFFile(SharedBytes(copying: model.bytes), path: "m.gguf"),
      mmproj: mmproj.map { try GGUFFile(SharedBytes(copying: $0.bytes), path: "p.gguf") })
  }

  private static func configuration(
    _ architecture: String = "llama", _ change: (inout GGUFFixture) -> Void
  ) throws -> LLaVAConfiguration {
    var model = F.model(architecture)
    change(&model)
    return try open(model).configuration
  }

  // MARK: - Configuration

  @Test func `takes the defaults of keys that files omit`() throws {
    let configuration = try Self.open().configuration
    let text = configuration.text
    #expect(text.kind == .llama && text.keyValueHeadCount == 2 && text.headDimension == 4 && text.vocabularySize == 5)
    #expect(text.ropeTheta == 10_000 && text.ropeScaling == .none && text.attentionBias == .none)
    #expect(text.contextLength == 64 && text.contextCeiling == nil)
    #expect(configuration.vision?.activation == .quickGELU && configuration.visionLayersNeeded == 1)
    #expect(configuration.layout == .gguf && configuration.anyResolution == nil && !configuration.tiesWordEmbeddings)
    #expect(configuration.dropsClassToken && configuration.projectorHasBias)
  }

  @Test func `takes integers and floats of any width`() throws {
    let text = try Self.configuration {
      $0["llama.context_length"] = .u64(99)
      $0["llama.embedding_length"] = .i32(8)
      $0["llama.attention.head_count_kv"] = .integers([1])
      $0["llama.attention.layer_norm_rms_epsilon"] = .f64(1e-6)
      $0["llama.rope.freq_base"] = .f32(5e5)
      $0["llama.vocab_size"] = .i64(5)
      $0.replace("blk.0.attn_k.weight", [8, 4])
      $0.replace("blk.0.attn_v.weight", [8, 4])
    }.text
    #expect(text.contextLength == 99 && text.keyValueHeadCount == 1 && text.ropeTheta == 5e5)
    #expect(text.rmsNormEpsilon == 1e-6)
  }

  @Test func `scales the frequencies of RoPE`() throws {
    let linear = try Self.configuration {
      $0["llama.rope.scaling.type"] = .text("linear")
      $0["llama.rope.scaling.factor"] = .f32(4)
    }
    #expect(linear.text.ropeScaling == .linear(factor: 4))
    let old = try Self.configuration { $0["llama.rope.scale_linear"] = .f32(2) }
    #expect(old.text.ropeScaling == .linear(factor: 2))
    let none = try Self.configuration { $0["llama.rope.scaling.type"] = .text("none") }
    #expect(none.text.ropeScaling == .none)
    let divided = try Self.configuration { model in
      var factors = F.Tensor("rope_freqs.weight", [2])
      factors.data = [1 as Float, 8].flatMap { little($0.bitPattern) }
      model.tensors.append(factors)
    }
    #expect(divided.text.ropeScaling == .divided(by: [1, 8]))
    let plain = RotaryScaling.none.frequencies(headDimension: 4, theta: 10_000)
    let scaled = divided.text.ropeScaling.frequencies(headDimension: 4, theta: 10_000)
    #expect(scaled == [plain[0], plain[1] / 8])
  }

  @Test func `limits the context to a sliding window`() throws {
    let text = try Self.configuration { $0["llama.attention.sliding_window"] = .u32(16) }.text
    #expect(text.contextLength == 16 && text.contextCeiling == 16)
    let off = try Self.configuration { $0["llama.attention.sliding_window"] = .u32(0) }.text
    #expect(off.contextLength == 64 && off.contextCeiling == nil)
    let qwen = try Self.configuration("qwen2") { $0["qwen2.attention.sliding_window"] = .u32(16) }.text
    #expect(qwen.contextLength == 64 && qwen.kind == .qwen2)
  }

  @Test func `finds ties and biases by the tensors`() throws {
    let configuration = try Self.configuration { model in
      model.remove("output.weight")
      for name in ["attn_q", "attn_k", "attn_v"] { model.tensors.append(F.Tensor("blk.0.\(name).bias", [8])) }
    }
    #expect(configuration.tiesWordEmbeddings && configuration.text.attentionBias == .queriesKeysValues)
    let all = try Self.configuration { model in
      for name in ["attn_q", "attn_output"] { model.tensors.append(F.Tensor("blk.0.\(name).bias", [8])) }
    }
    #expect(all.text.attentionBias == .all)
  }

  @Test(arguments: [
    ("clip.use_gelu", Activation.gelu), ("clip.use_silu", .silu),
  ])
  func `takes the activation of the vision encoder`(key: String, activation: Activation) throws {
    var mmproj = F.mmproj()
    mmproj[key] = .bool(true)
    #expect(try Self.open(F.model(), mmproj).configuration.vision?.activation == activation)
  }

  @Test func `accepts the projector of files of 2023`() throws {
    var mmproj = F.mmproj()
    mmproj.version = 2
    mmproj["clip.projector_type"] = nil
    #expect(try Self.open(F.model(), mmproj).configuration.modelType == "llava")
    mmproj["clip.vision.projector_type"] = .text("mlp")
    #expect(try Self.open(F.model(), mmproj).configuration.modelType == "llava")
  }

  @Test func `takes the feature layer, the tiling and the normalization`() throws {
    var mmproj = F.mmproj()
    mmproj["clip.vision.feature_layer"] = .integers([0])
    mmproj["clip.vision.image_grid_pinpoints"] = .integers([4, 8, 8, 4])
    mmproj["clip.vision.image_aspect_ratio"] = .text("anyres")
    mmproj.tensors.append(F.Tensor("v.image_newline", [8]))
    let files = try Self.open(F.model(), mmproj)
    let rules = try #require(files.configuration.anyResolution)
    #expect(rules.canvases == [PixelSize(height: 4, width: 8), PixelSize(height: 8, width: 4)])
    #expect(rules.merge == .spatialUnpad && files.configuration.modelType == "llava_next")
    #expect(files.configuration.visionLayersNeeded == 0)
    let preprocessor = try #require(try files.preprocessor())
    #expect(preprocessor.mean == [0.5, 0.25, 0.75])
    #expect(preprocessor.standardDeviation.map { Float($0) } == [0.1, 0.2, 0.3])
    #expect(preprocessor.resizesTo == .shortestEdge(4) && preprocessor.cropSize == PixelSize(height: 4, width: 4))
    mmproj["clip.vision.mm_patch_merge_type"] = .text("flat")
    #expect(try Self.open(F.model(), mmproj).configuration.anyResolution?.merge == .flat)
  }

  @Test func `opens a language model without a vision encoder`() throws {
    let folder = try TemporaryFolder()
    let files = try ModelSearch.open(folder.write("m.gguf", F.model().bytes))
    let configuration = files.configuration
    #expect(configuration.vision == nil && configuration.visualTokensPerView == 0 && configuration.text.layerCount == 1)
    #expect(try files.preprocessor() == nil && files.visionCheckpoint == nil)
    _ = try files.tensor("language_model.model.embed_tokens.weight", shape: [5, 8])
    #expect(throws: CheckpointError.self) { try GGUFExport.visionEncoder(configuration, nil, name: "m") }
  }

  // MARK: - Tensors

  @Test func `puts the rows of queries and keys of Llama in order`() throws {
    let files = try Self.open()
    // Of a head of 4, row 2i + j of the file is row i + 2j.
    let rows = [0, 2, 1, 3, 4, 6, 5, 7].flatMap { row in (0..<8).map { Float(8 * row + $0) } }
    for name in ["q_proj", "k_proj"] {
      let tensor = try files.checkpoint.tensor("language_model.model.layers.0.self_attn.\(name).weight", shape: [8, 8])
      #expect(tensor.floats() == rows)
    }
    let values = try files.checkpoint.tensor("language_model.model.layers.0.self_attn.v_proj.weight", shape: [8, 8])
    #expect(values.floats() == (0..<64).map { Float($0) })
    let qwen = try Self.open(F.model("qwen2"))
    let queries = try qwen.checkpoint.tensor("language_model.model.layers.0.self_attn.q_proj.weight", shape: [8, 8])
    #expect(queries.floats() == (0..<64).map { Float($0) })
  }

  @Test func `tells the layers of the vision encoder's MLP apart by shape`() throws {
    var named = F.mmproj()
    for index in named.tensors.indices {
      let name = named.tensors[index].name
      if name.contains("ffn_down") { named.tensors[index].name = name.replacing("ffn_down", with: "ffn_up") }
      if name.contains("ffn_up") { named.tensors[index].name = name.replacing("ffn_up", with: "ffn_down") }
    }
    for mmproj in [F.mmproj(), named] {
      let checkpoint = try Self.open(F.model(), mmproj).checkpoint
      let mlp = "vision_tower.vision_model.encoder.layers.0.mlp."
      _ = try checkpoint.tensor(mlp + "fc1.weight", shape: [12, 4])
      _ = try checkpoint.tensor(mlp + "fc1.bias", shape: [12])
      _ = try checkpoint.tensor(mlp + "fc2.weight", shape: [4, 12])
      _ = try checkpoint.tensor(mlp + "fc2.bias", shape: [4])
    }
  }

  @Test func `names a missing tensor as its file does`() throws {
    var (model, mmproj) = (F.model(), F.mmproj())
    model.remove("blk.0.ffn_gate.weight")
    mmproj.remove("v.blk.0.attn_out.bias")
    let checkpoint = try Self.open(model, mmproj).checkpoint
    for (name, stored, file) in [
      ("language_model.model.layers.0.mlp.gate_proj.weight", "blk.0.ffn_gate.weight", "m.gguf"),
      ("vision_tower.vision_model.encoder.layers.0.self_attn.out_proj.bias", "v.blk.0.attn_out.bias", "p.gguf"),
    ] {
      #expect(throws: CheckpointError.missingTensor(name: stored, directory: file)) {
        try checkpoint.tensor(name, shape: [1])
      }
    }
  }

  @Test func `refuses two names for one tensor`() throws {
    var mmproj = F.mmproj()
    mmproj.tensors += [F.Tensor("model.image_newline", [8]), F.Tensor("v.image_newline", [8])]
    #expect(throws: CheckpointError.self) { try Self.open(F.model(), mmproj) }
  }

  // MARK: - Refusals

  private static let wrongModels: [(String, @Sendable (inout GGUFFixture) -> Void, String)] = [
    ("another architecture", { $0["general.architecture"] = .text("gemma3") }, #"found "gemma3""#),
    ("no architecture", { $0["general.architecture"] = nil }, "general.architecture: expected 'llama' or 'qwen2'"),
    ("experts", { $0["llama.expert_count"] = .u32(8) }, "llama.expert_count: expected 0"),
    ("no width", { $0["llama.embedding_length"] = nil }, "llama.embedding_length: expected an integer"),
    ("no layers", { $0["llama.block_count"] = .u32(0) }, "llama.block_count"),
    ("layers beyond the limit", { $0["llama.block_count"] = .u64(1 << 40) }, "llama.block_count"),
    ("a width of 2^63", { $0["llama.embedding_length"] = .u64(1 << 63) }, "llama.embedding_length"),
    ("no heads", { $0["llama.attention.head_count"] = nil }, "llama.attention.head_count: expected an integer"),
    ("heads of odd size", { $0["llama.attention.head_count"] = .u32(8) }, "heads of even, equal size"),
    ("heads that do not divide", { $0["llama.attention.head_count"] = .u32(3) }, "heads of even, equal size"),
    ("different heads", { $0["llama.attention.head_count_kv"] = .integers([1, 2]) }, "the same number in all layers"),
    ("no key heads", { $0["llama.attention.head_count_kv"] = .integers([]) }, "the same number in all layers"),
    ("3 key heads", { $0["llama.attention.head_count_kv"] = .u32(3) }, "a divisor of 2"),
    ("values of another size", { $0["llama.attention.value_length"] = .u32(6) }, "the size of a head, 4"),
    ("a part rotated", { $0["llama.rope.dimension_count"] = .u32(2) }, "the size of a head, 4"),
    ("no context", { $0["llama.context_length"] = nil }, "llama.context_length"),
    ("no epsilon", { $0["llama.attention.layer_norm_rms_epsilon"] = nil }, "layer_norm_rms_epsilon"),
    ("epsilon not a number", { $0["llama.attention.layer_norm_rms_epsilon"] = .f32(.nan) }, "layer_norm_rms_epsilon"),
    ("yarn", { $0["llama.rope.scaling.type"] = .text("yarn") }, "expected 'none' or 'linear', found \"yarn\""),
    ("linear without factor", { $0["llama.rope.scaling.type"] = .text("linear") }, "rope.scaling.factor"),
    ("base below 1", { $0["llama.rope.freq_base"] = .f32(0.5) }, "rope.freq_base"),
    (
      "frequencies of another head", { $0.tensors.append(F.Tensor("rope_freqs.weight", [3])) },
      "shape [3], expected [2]"
    ),
    (
      "frequencies of zero", { $0.tensors.append(F.Tensor("rope_freqs.weight", [2])) }, "values that are not positive"
    ),
    ("another vocabulary size", { $0["llama.vocab_size"] = .u32(6) }, "5, the rows of token_embd.weight"),
    (
      "more tokens than rows", { $0["tokenizer.ggml.tokens"] = .texts(Array(repeating: "a", count: 6)) },
      "at most 5 tokens"
    ),
    ("no embedding", { $0.remove("token_embd.weight") }, #"no tensor "token_embd.weight""#),
  ]

  @Test(arguments: wrongModels.indices)
  func `refuses a language model in one line`(index: Int) throws {
    let (label, change, words) = Self.wrongModels[index]
    let error = #expect(throws: CheckpointError.self, "\(label)") { try Self.configuration(change: change) }
    let description = try #require(error?.description)
    #expect(description.hasPrefix("m.gguf: ") && description.contains(words), "\(label): \(description)")
    #expect(!description.contains("\n"))
  }

  private static func configuration(change: (inout GGUFFixture) -> Void) throws -> LLaVAConfiguration {
    try configuration("llama", change)
  }

  private static let wrongEncoders: [(String, @Sendable (inout GGUFFixture) -> Void, String)] = [
    ("ldp", { $0["clip.projector_type"] = .text("ldp") }, "expected 'mlp', the projector of LLaVA, found \"ldp\""),
    ("resampler", { $0["clip.projector_type"] = .text("resampler") }, "found \"resampler\""),
    ("qwen2vl", { $0["clip.vision.projector_type"] = .text("qwen2vl_merger") }, "found \"qwen2vl_merger\""),
    (
      "no projector",
      {
        $0["clip.projector_type"] = nil
        $0["clip.has_llava_projector"] = nil
      }, "clip.projector_type: expected 'mlp'"
    ),
    ("no vision encoder", { $0["clip.has_vision_encoder"] = .bool(false) }, "has_vision_encoder"),
    ("Yi-VL", { $0.tensors.append(F.Tensor("mm.3.weight", [8, 8])) }, "mm.3.weight, as that of Yi-VL"),
    ("SigLIP", { $0.remove("v.class_embd") }, "the vision encoder is neither CLIP"),
    ("a patch bias", { $0.tensors.append(F.Tensor("v.patch_embd.bias", [4])) }, "the vision encoder is neither CLIP"),
    (
      "another width", { $0.replace("mm.2.weight", [8, 10]) },
      "have 10 columns (rows of mm.2.weight), expected the 8 of m.gguf"
    ),
    ("no second layer", { $0.remove("mm.2.weight") }, #"no tensor "mm.2.weight""#),
    ("several layers", { $0["clip.vision.feature_layer"] = .integers([0, 1]) }, "features of several layers"),
    ("a layer beyond the last", { $0["clip.vision.feature_layer"] = .integers([2]) }, "integers from 0 to 1"),
    ("patches beyond the image", { $0["clip.vision.patch_size"] = .u32(8) }, "at most 4"),
    ("patches of zero", { $0["clip.vision.patch_size"] = .u32(0) }, "clip.vision.patch_size"),
    ("heads that do not divide", { $0["clip.vision.attention.head_count"] = .u32(3) }, "a divisor of 4"),
    (
      "canvases of 3", { $0["clip.vision.image_grid_pinpoints"] = .integers([4, 8, 8]) }, "pairs of heights and widths"
    ),
    ("a canvas between views", { $0["clip.vision.image_grid_pinpoints"] = .integers([4, 6]) }, "multiples of the"),
    ("no canvases", { $0["clip.vision.image_grid_pinpoints"] = .integers([]) }, "1 to 64 pairs"),
    ("another tiling", { $0["clip.vision.image_aspect_ratio"] = .text("anyres_max_0") }, "which is not supported"),
    ("a deviation of zero", { $0["clip.vision.image_std"] = .floats([0, 1, 1]) }, "image_std"),
    ("two colours", { $0["clip.vision.image_mean"] = .floats([0, 1]) }, "image_mean"),
  ]

  @Test(arguments: wrongEncoders.indices)
  func `refuses a vision encoder in one line`(index: Int) throws {
    let (label, change, words) = Self.wrongEncoders[index]
    var mmproj = F.mmproj()
    change(&mmproj)
    let error = #expect(throws: CheckpointError.self, "\(label)") {
      try Self.open(F.model(), mmproj).preprocessor()
    }
    let description = try #require(error?.description)
    #expect(description.hasPrefix("p.gguf: ") && description.contains(words), "\(label): \(description)")
    #expect(!description.contains("\n"))
  }

  @Test func `refuses files of a pair in the wrong places`() throws {
    #expect(throws: CheckpointError.swappedGGUF(file: "m.gguf", isVisionEncoder: true)) {
      try Self.open(F.mmproj(), F.model())
    }
    #expect(throws: CheckpointError.swappedGGUF(file: "p.gguf", isVisionEncoder: false)) {
      try Self.open(F.model(), F.model())
    }
  }

  // MARK: - Search

  @Test func `finds a pair by content in a directory or next to the model`() throws {
    let folder = try TemporaryFolder()
    let model = try folder.write("some.bin", F.model().bytes)
    let mmproj = try folder.write("other", F.mmproj().bytes)
    try folder.write("README.md", "GGUF files of LLaVA")
    for path in [folder.path, model] {
      let files = try ModelSearch.open(path)
      #expect(files.path == path && files.configuration.layout == .gguf && files.metadata != nil)
      #expect(try ModelSearch.open(path, mmproj: mmproj).contentKey == files.contentKey)
    }
    #expect(throws: CheckpointError.swappedGGUF(file: mmproj, isVisionEncoder: true)) { try ModelSearch.open(mmproj) }
    #expect(throws: CheckpointError.visionTowerOfGGUF(path: model, given: "clip")) {
      try ModelSearch.open(model, visionTower: "clip")
    }
  }

  @Test func `names several candidates`() throws {
    let folder = try TemporaryFolder()
    let model = try folder.write("a.gguf", F.model().bytes)
    let mmproj = try folder.write("p.gguf", F.mmproj().bytes)
    try folder.write("q.gguf", F.mmproj().bytes)
    let several = CheckpointError.ambiguousGGUF(
      directory: folder.path, isVisionEncoder: true, found: ["p.gguf", "q.gguf"])
    #expect(throws: several) { try ModelSearch.open(folder.path) }
    let beside = #expect(throws: CheckpointError.self) { try ModelSearch.open(model) }
    #expect(beside?.remedies == [.mmproj])
    #expect(try ModelSearch.open(folder.path, mmproj: mmproj).configuration.modelType == "llava")
    try folder.write("b.gguf", F.model().bytes)
    let models = CheckpointError.ambiguousGGUF(
      directory: folder.path, isVisionEncoder: false, found: ["a.gguf", "b.gguf"])
    #expect(throws: models) { try ModelSearch.open(folder.path, mmproj: mmproj) }
    #expect(try ModelSearch.open(model, mmproj: mmproj).configuration.modelType == "llava")
  }

  @Test func `names a directory without a language model`() throws {
    let folder = try TemporaryFolder()
    try folder.write("p.gguf", F.mmproj().bytes)
    #expect(throws: CheckpointError.noLanguageModel(directory: folder.path, found: ["p.gguf"])) {
      try ModelSearch.open(folder.path)
    }
  }

  @Test func `prefers a directory's config.json`() throws {
    let path = Goldens.path("models/tiny-llava-1.5")
    #expect(try ModelSearch.open(path).metadata == nil)
    #expect(throws: CheckpointError.unneededMMProj(directory: path, given: "p.gguf")) {
      try ModelSearch.open(path, mmproj: "p.gguf")
    }
  }
}
