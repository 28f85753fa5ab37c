import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

@Suite struct ConfigurationTests {
  /// The configuration of a `config.json` with this text.
  private func read(_ text: String) throws -> LLaVAConfiguration {
    let folder = try TemporaryFolder()
    try folder.write("config.json", text)
    return try LLaVAConfiguration(directory: folder.path)
  }

  /// The text of a LLaVA `config.json` with these members.
  private func llava(_ members: String) -> String { #"{"model_type":"llava",\#(members)}"# }

  private func sizes(_ text: TextConfiguration) -> [Int] {
    [
      text.hiddenSize, text.intermediateSize, text.layerCount, text.headCount, text.keyValueHeadCount,
      text.headDimension,
      text.vocabularySize, text.contextLength,
    ]
  }

  private func sizes(_ vision: VisionConfiguration) -> [Int] {
    [
      vision.hiddenSize, vision.intermediateSize, vision.layerCount, vision.headCount, vision.imageSize,
      vision.patchSize,
    ]
  }

  @Test(arguments: [
    #"{"model_type":"llava"}"#, #"{"model_type":"llava","text_config":{}}"#,
    #"{"model_type":"llava","text_config":null}"#,
    #"{"model_type":"llava","text_config":{"rope_scaling":null,"head_dim":null,"sliding_window":null}}"#,
    #"{"model_type":"llava","text_config":{"num_key_value_heads":null,"mlp_bias":null,"attention_bias":null}}"#,
  ])
  func `has Llama's values for missing keys`(file: String) throws {
    let text = try read(file).text
    #expect(text.kind == .llama)
    #expect(sizes(text) == [4096, 11_008, 32, 32, 32, 128, 32_000, 2048])
    #expect(text.rmsNormEpsilon == 1e-6 && text.ropeTheta == 10_000)
  }

  @Test func `has Mistral's values for missing keys`() throws {
    let members = #""image_token_index":9,"text_config":{"model_type":"mistral"}"#
    let text = try read(llava(members)).text
    #expect(text.kind == .mistral)
    // The default sliding window of 4096 tokens limits the context.
    #expect(sizes(text) == [4096, 14_336, 32, 32, 8, 128, 32_000, 4096])
    let full = #""text_config":{"model_type":"mistral","sliding_window":null,"num_key_value_heads":null}"#
    #expect(try sizes(read(llava(full)).text) == [4096, 14_336, 32, 32, 32, 128, 32_000, 131_072])
    #expect(text.rmsNormEpsilon == 1e-6 && text.ropeTheta == 10_000)
  }

  @Test func `has LLaVA-OneVision's values for missing keys`() throws {
    let configuration = try read(#"{"architectures":["LlavaOnevisionForConditionalGeneration"]}"#)
    #expect(configuration.modelType == "llava_onevision" && configuration.text.kind == .qwen2)
    #expect(configuration.imageTokenID == 151_646 && configuration.videoTokenID == 151_647)
    #expect(configuration.visionFeatureLayer == -1 && !configuration.dropsClassToken)
    let vision = try #require(configuration.vision)
    #expect(vision.family == .siglip && sizes(vision) == [1152, 4304, 26, 16, 384, 14])
    #expect(vision.activation == .tanhGELU && vision.layerNormEpsilon == 1e-6)
    #expect(configuration.visualTokensPerView == 729 && configuration.visionLayersNeeded == 26)
    let rules = try #require(configuration.anyResolution)
    #expect(rules.canvases.count == 36 && rules.canvases[7] == PixelSize(height: 768, width: 768))
    #expect(rules.maxMapViews == 9 && rules.tilesOnlySingleImages)
  }

  @Test func `has SigLIP's values for missing keys, and no class token`() throws {
    let members = #""vision_feature_select_strategy":"full","vision_config":{"model_type":"siglip_vision_model"}"#
    let configuration = try read(llava(members))
    let vision = try #require(configuration.vision)
    #expect(sizes(vision) == [768, 3072, 12, 12, 224, 16] && vision.activation == .tanhGELU)
    #expect(configuration.visualTokensPerView == 196 && !configuration.takesVideos)
    // transformers would leave out the first patch.
    expectError(
      llava(#""vision_config":{"model_type":"siglip_vision_model"}"#), "vision_feature_select_strategy")
  }

  @Test func `refuses one token for images and videos`() {
    expectError(
      #"{"model_type":"llava_onevision","image_token_index":7,"video_token_index":7}"#, "video_token_index")
  }

  @Test(arguments: ["anyres", "anyres_max_", "anyres_max_0", "anyres_max_65", "pad", "anyres_max_9x"])
  func `refuses another aspect ratio of LLaVA-OneVision`(ratio: String) {
    expectError(#"{"model_type":"llava_onevision","vision_aspect_ratio":"\#(ratio)"}"#, "vision_aspect_ratio")
  }

  @Test func `has Qwen2's values and biases, and no sliding window unless it is enabled`() throws {
    let members = #""image_token_index":9,"text_config":{"model_type":"qwen2","sliding_window":4096}"#
    let text = try read(llava(members)).text
    #expect(sizes(text) == [4096, 22_016, 32, 32, 32, 128, 151_936, 32_768])
    #expect(text.kind == .qwen2 && text.attentionBias == .queriesKeysValues)
    #expect(try read(llava(#""image_token_index":9,"text_config":{"attention_bias":true}"#)).text.attentionBias == .all)
    #expect(try read(llava(#""image_token_index":9"#)).text.attentionBias == .none)
    let mistral = #""text_config":{"model_type":"mistral","attention_bias":true,"mlp_bias":true}"#
    #expect(try read(llava(mistral)).text.attentionBias == .none)
  }

  @Test(arguments: [
    (#""sliding_window":512"#, 512), (#""sliding_window":4096"#, 2048), (#""sliding_window":2048"#, 2048),
    (#""model_type":"mistral","max_position_embeddings":32768"#, 4096),
    (#""model_type":"qwen2","sliding_window":64"#, 32_768),
    (#""model_type":"qwen2","sliding_window":64,"use_sliding_window":true"#, 64),
    (#""model_type":"qwen2","use_sliding_window":true"#, 4096),
  ])
  func `limits the context to the sliding window`(members: String, contextLength: Int) throws {
    let configuration = try read(llava(#""text_config":{\#(members)}"#))
    #expect(configuration.text.contextLength == contextLength)
    let isCapped = ![2048, 32_768].contains(contextLength)
    #expect(configuration.notes.count == (isCapped ? 1 : 0))
    #expect(!isCapped || configuration.text.contextCeiling == contextLength)
  }

  @Test func `reads RoPE scaling`() throws {
    let llama3 = #""rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4"#
    for (member, scaling) in [
      (#""rope_scaling":{"type":"linear","factor":2.5}"#, RotaryScaling.linear(factor: 2.5)),
      (#""rope_scaling":{"rope_type":"default"}"#, .none),
      (#""rope_parameters":{"rope_theta":1e6}"#, .none),
      (#""rope_scaling":{"type":"linear","rope_type":"default","factor":4}"#, .linear(factor: 4)),
      (#""model_type":"mistral","rope_scaling":{"type":"linear","rope_type":"default","factor":4}"#, .none),
      (#""rope_scaling":{"type":"dynamic","factor":2}"#, .none),
      (
        #""rope_scaling":{\#(llama3),"original_max_position_embeddings":8192}"#,
        .llama3(factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContextLength: 8192)
      ),
    ] {
      #expect(try read(llava(#""image_token_index":9,"text_config":{\#(member)}"#)).text.ropeScaling == scaling)
    }
  }

  @Test func `has CLIP's values for missing keys, and those of CLIP ViT-L/14-336 for a missing section`() throws {
    let large = try #require(try read(llava(#""image_token_index":9"#)).vision)
    #expect(sizes(large) == [1024, 4096, 24, 16, 336, 14] && large.patchCount == 576)
    let base = try #require(try read(llava(#""image_token_index":9,"vision_config":{}"#)).vision)
    #expect(sizes(base) == [768, 3072, 12, 12, 224, 32] && base.patchCount == 49)
    for visionTower in [large, base] {
      #expect(visionTower.layerNormEpsilon == 1e-5 && visionTower.activation == .quickGELU)
    }
  }

  @Test(arguments: [
    (#""image_token_index":7"#, 7), (#""image_token_id":7"#, 7), (#""image_token_index":7,"image_token_id":8"#, 8),
    (#""text_config":{"vocab_size":32064}"#, 32_000), (#""image_token_index":0"#, 0),
    (#""text_config":{"vocab_size":640},"image_token_index":640"#, 640),
    (#""image_token_index":2147483647"#, 2_147_483_647),
  ])
  func `reads the image token by both names, in or after the vocabulary`(members: String, token: Int) throws {
    #expect(try read(llava(members)).imageTokenID == token)
  }

  @Test(arguments: [
    ("", false), (#","tie_word_embeddings":true"#, false), (#","text_config":{"tie_word_embeddings":true}"#, true),
    (#","text_config":{"tie_word_embeddings":null}"#, false),
    (#","tie_word_embeddings":true,"text_config":{"tie_word_embeddings":false}"#, false),
    (#","tie_word_embeddings":false,"text_config":{"tie_word_embeddings":true}"#, true),
  ])
  func `reads tie_word_embeddings of text_config alone`(members: String, ties: Bool) throws {
    let configuration = try read(llava(#""image_token_index":9"# + members))
    #expect(configuration.tiesWordEmbeddings == ties)
    #expect(configuration.tiesWordEmbeddingsAtTop == (members == #","tie_word_embeddings":true"#))
  }

  @Test(arguments: [(-2, 23), (-1, 24), (-25, 0), (0, 0), (24, 24)])
  func `counts the feature layer from either end`(layer: Int, needed: Int) throws {
    let configuration = try read(llava(#""image_token_index":9,"vision_feature_layer":\#(layer)"#))
    #expect(configuration.visionLayersNeeded == needed)
    #expect(configuration.visualTokensPerView == 576)
    let list = try read(llava(#""image_token_index":9,"vision_feature_layer":[\#(layer)]"#))
    #expect(list.visionLayersNeeded == needed)
  }

  @Test(arguments: ["[]", "[-2,-5]", "[25]", "[[-2]]", "[1.5]", "null", "\"-2\"", "[null]"])
  func `refuses several feature layers or none`(value: String) {
    expectError(llava(#""image_token_index":9,"vision_feature_layer":\#(value)"#), "vision_feature_layer")
  }

  @Test func `reads the model type from architectures if the file has none`() throws {
    for (name, type) in [
      ("LlavaForConditionalGeneration", "llava"), ("LlavaNextForConditionalGeneration", "llava_next"),
    ] {
      let configuration = try read(#"{"architectures":["\#(name)"],"_name_or_path":"org/model"}"#)
      #expect(configuration.modelType == type)
      #expect(configuration.architectures == [name] && configuration.nameOrPath == "org/model")
    }
    let other = try read(llava(#""architectures":["LlavaNextForConditionalGeneration"]"#))
    #expect(other.modelType == "llava" && other.notes.count == 1)
  }

  /// Values outside the range of a key, as JSON and as the message quotes them.
  private static let outside = [
    ("1e30", "1e+30"), ("1180591620717411303424", "1.1805916207174113e+21"), ("-1", "-1"), ("1.5", "1.5"),
    ("NaN", "nan"), ("-Infinity", "-inf"), ("1e999", "inf"), ("null", "null"), ("\"4096\"", "\"4096\""),
    ("true", "true"),
    ("[1,2]", "a list of 2"), ("{}", "an object"),
  ]

  @Test(arguments: outside)
  func `names the key and the range of a number that is not in it`(value: String, found: String) {
    for (key, top) in [("hidden_size", 1 << 20), ("max_position_embeddings", 1 << 24), ("num_hidden_layers", 1024)] {
      let error = #expect(throws: CheckpointError.self) { try read(llava(#""text_config":{"\#(key)":\#(value)}"#)) }
      guard case .badValue(_, let named, "an integer from 1 to \(top)", found) = error else {
        Issue.record("\(value): \(String(describing: error))")
        continue
      }
      #expect(named == "text_config." + key)
    }
    guard !["1e+30", "1.5", "1.1805916207174113e+21"].contains(found) else { return }
    expectError(llava(#""text_config":{"rope_theta":\#(value)}"#), "text_config.rope_theta")
  }

  @Test func `reads an integer with an empty fraction, and the last of two values of a key`() throws {
    #expect(try read(llava(#""text_config":{"max_position_embeddings":512.0}"#)).text.contextLength == 512)
    let twice = #""text_config":{"max_position_embeddings":512,"max_position_embeddings":64}"#
    #expect(try read(llava(twice)).text.contextLength == 64)
  }

  @Test func `quotes at most 60 characters of a value, and no type of ours`() {
    let long = String(repeating: "x", count: 1 << 16)
    for member in [
      #""vision_feature_select_strategy":"\#(long)""#, #""text_config":{"model_type":"\#(long)"}"#,
      #""projector_hidden_act":"\#(long)""#, #""text_config":{"rope_scaling":{"type":"\#(long)"}}"#,
      #""vision_feature_layer":"\#(long)""#, #""tie_word_embeddings":{"a":"\#(long)"}"#,
      #""image_grid_pinpoints":[[\#(String(repeating: "1,", count: 1 << 16))1]]"#,
    ] {
      let error = #expect(throws: CheckpointError.self) { try read(#"{"model_type":"llava_next",\#(member)}"#) }
      let text = error?.description ?? ""
      #expect(text.count < 400 && !text.contains(String(repeating: "x", count: 61)), "\(text.prefix(1000))")
      for name in ["Int", "Double", "String", "Bool", "Dictionary", "Array", "Decod"] { #expect(!text.contains(name)) }
    }
  }

  @Test func `does not overflow with the largest accepted sizes`() throws {
    let text =
      #""text_config":{"hidden_size":1048576,"num_attention_heads":1048576,"head_dim":1048576,"vocab_size":16777216}"#
    let vision = #""vision_config":{"image_size":4096,"patch_size":1}"#
    let configuration = try read(llava("\(text),\(vision)"))
    #expect(configuration.text.heads.queryColumns == 1 << 40)
    #expect(configuration.text.heads.keyValueColumns == 1 << 40)
    #expect(configuration.visualTokensPerView == 1 << 24)
  }

  /// Members of `text_config`, and the key in the expected error.
  private static let invalidText = [
    (#""hidden_size":0"#, "hidden_size"), (#""hidden_size":-4096"#, "hidden_size"),
    (#""hidden_size":1048577"#, "hidden_size"), (#""hidden_size":9223372036854775807"#, "hidden_size"),
    (#""intermediate_size":0"#, "intermediate_size"), (#""num_hidden_layers":0"#, "num_hidden_layers"),
    (#""num_hidden_layers":1025"#, "num_hidden_layers"), (#""num_attention_heads":0"#, "num_attention_heads"),
    (#""num_attention_heads":-1"#, "num_attention_heads"), (#""num_attention_heads":33"#, "num_attention_heads"),
    (#""num_attention_heads":8192"#, "head_dim"), (#""num_key_value_heads":0"#, "num_key_value_heads"),
    (#""num_key_value_heads":5"#, "num_key_value_heads"), (#""num_key_value_heads":64"#, "num_key_value_heads"),
    (#""head_dim":0"#, "head_dim"), (#""head_dim":127"#, "num_attention_heads"), (#""head_dim":-2"#, "head_dim"),
    (#""hidden_size":96"#, "num_attention_heads"), (#""vocab_size":0"#, "vocab_size"),
    (#""vocab_size":16777217"#, "vocab_size"), (#""max_position_embeddings":0"#, "max_position_embeddings"),
    (#""max_position_embeddings":99999999999"#, "max_position_embeddings"), (#""rms_norm_eps":-1e-5"#, "rms_norm_eps"),
    (#""rms_norm_eps":1"#, "rms_norm_eps"), (#""rope_theta":0"#, "rope_theta"), (#""rope_theta":-5"#, "rope_theta"),
    (#""rope_scaling":{"type":"linear"}"#, "rope_scaling.factor"),
    (#""rope_scaling":{"type":"linear","factor":0.5}"#, "rope_scaling.factor"),
    (#""rope_scaling":{"rope_type":"llama3"}"#, "rope_scaling.low_freq_factor"),
    (
      #""rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4}"#,
      "rope_scaling.high_freq_factor"
    ),
    (
      #""rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4}"#,
      "rope_scaling.original_max_position_embeddings"
    ),
    (#""rope_scaling":{"type":"yarn","factor":2}"#, "rope_scaling.type"),
    (#""rope_scaling":{}"#, "rope_scaling.rope_type"),
    (#""rope_parameters":{"rope_type":"yarn","rope_theta":1e6}"#, "rope_parameters.rope_type"),
    (#""hidden_act":"gelu""#, "hidden_act"), (#""mlp_bias":true"#, "mlp_bias"), (#""hidden_size":null"#, "hidden_size"),
    (#""sliding_window":0"#, "sliding_window"), (#""model_type":"phi3""#, "model_type"),
    (#""model_type":null"#, "model_type"), (#""partial_rotary_factor":0.5"#, "partial_rotary_factor"),
  ]

  @Test(arguments: invalidText)
  func `refuses a value of the language model and names its key`(member: String, key: String) throws {
    expectError(llava(#""image_token_index":9,"text_config":{\#(member)}"#), "text_config." + key)
  }

  private static let invalidVision = [
    (#""hidden_size":0"#, "hidden_size"), (#""hidden_size":2000000"#, "hidden_size"),
    (#""intermediate_size":-1"#, "intermediate_size"), (#""num_hidden_layers":0"#, "num_hidden_layers"),
    (#""num_attention_heads":0"#, "num_attention_heads"), (#""num_attention_heads":7"#, "num_attention_heads"),
    (#""num_attention_heads":1000"#, "num_attention_heads"), (#""image_size":0"#, "image_size"),
    (#""image_size":4097"#, "image_size"), (#""patch_size":0"#, "patch_size"), (#""patch_size":225"#, "patch_size"),
    (#""patch_size":-14"#, "patch_size"), (#""num_channels":4"#, "num_channels"),
    (#""hidden_act":"relu""#, "hidden_act"),
    (#""layer_norm_eps":2"#, "layer_norm_eps"), (#""model_type":"siglip2_vision_model""#, "model_type"),
  ]

  @Test(arguments: invalidVision)
  func `refuses a value of the vision encoder and names its key`(member: String, key: String) throws {
    expectError(llava(#""image_token_index":9,"vision_config":{\#(member)}"#), "vision_config." + key)
  }

  @Test(arguments: [
    (#"{}"#, "model_type"), (#"{"model_type":"llava_onevision2"}"#, "model_type"),
    (#"{"model_type":"llama"}"#, "model_type"),
    (#"{"model_type":"llava","image_token_index":2147483648}"#, "image_token_index"),
    (#"{"model_type":"llava","image_token_index":true}"#, "image_token_index"), (#"{"model_type":5}"#, "model_type"),
    (#"{"model_type":"llava","text_config":[]}"#, "text_config"),
    (#"{"model_type":"llava","vision_config":7}"#, "vision_config"),
    (#"{"model_type":"llava","text_config":{"rope_scaling":"linear"}}"#, "text_config.rope_scaling"),
    (#"{"model_type":"llava","text_config":{"attention_bias":"no"}}"#, "text_config.attention_bias"),
    (#"{"model_type":"llava","text_config":{"rms_norm_eps":1e999}}"#, "text_config.rms_norm_eps"),
    (#"{"model_type":"llava","image_token_index":-1}"#, "image_token_index"),
    (#"{"model_type":"llava","image_token_index":9,"vision_feature_layer":25}"#, "vision_feature_layer"),
    (#"{"model_type":"llava","image_token_index":9,"vision_feature_layer":-26}"#, "vision_feature_layer"),
    (
      #"{"model_type":"llava","image_token_index":9,"vision_feature_layer":9223372036854775807}"#,
      "vision_feature_layer"
    ),
    (
      #"{"model_type":"llava","image_token_index":9,"vision_feature_layer":-9223372036854775808}"#,
      "vision_feature_layer"
    ),
    (
      #"{"model_type":"llava","image_token_index":9,"vision_feature_select_strategy":"cls"}"#,
      "vision_feature_select_strategy"
    ),
    (#"{"model_type":"llava","image_token_index":9,"projector_hidden_act":"relu"}"#, "projector_hidden_act"),
  ])
  func `refuses a top-level value and names its key`(text: String, key: String) {
    expectError(text, key)
  }

  private func expectError(_ text: String, _ key: String, sourceLocation: SourceLocation = #_sourceLocation) {
    let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) { try read(text) }
    guard case .badValue(_, key, _, _) = error else {
      Issue.record("\(text): \(String(describing: error))", sourceLocation: sourceLocation)
      return
    }
  }

  @Test(arguments: [
    "null", "[]", "3", "{", "not JSON", "{\"model_type\":\"\u{0}",
    String(repeating: "[", count: 100_000), String(repeating: #"{"text_config":"#, count: 100_000),
  ])
  func `refuses a malformed file`(text: String) throws {
    let error = #expect(throws: CheckpointError.self) { try read(text) }
    guard case .malformed = error else {
      Issue.record("\(text.prefix(80)): \(String(describing: error))")
      return
    }
  }

  @Test func `names a missing or empty file`() throws {
    let folder = try TemporaryFolder()
    let (directory, path) = (folder.path, folder.path("config.json"))
    #expect(throws: CheckpointError.file(.notFound(path: path))) { try LLaVAConfiguration(directory: directory) }
    try folder.write("config.json", "")
    #expect(throws: CheckpointError.file(.empty(path: path))) { try LLaVAConfiguration(directory: directory) }
  }

  @Test func `survives the change of any byte`() throws {
    let whole = Array(llava(#""image_token_index":9,"text_config":{"head_dim":64,"vocab_size":40}"#).utf8)
    let folder = try TemporaryFolder()
    for i in whole.indices {
      for value in [0, 0xFF] + Array("\"]}-9\\".utf8) {
        var changed = whole
        changed[i] = value
        try folder.write("config.json", changed)
        _ = try? LLaVAConfiguration(directory: folder.path)
      }
    }
  }

  @Test func `names the key of an invalid value in a preprocessor file`() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("preprocessor_config.json", #"{"resample":2}"#)
    let error = #expect(throws: CheckpointError.self) { try PreprocessorConfiguration(JSONFile.section(at: path)) }
    guard case .badValue(path, "resample", _, "2") = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }
}
