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
    #"{"model_type":"llava","text_config":{"hidden_size":null,"rope_scaling":null,"head_dim":null,"sliding_window":null}}"#,
  ])
  func `has Llama's values for missing keys`(file: String) throws {
    // The default image token is just outside Llama's default vocabulary, so the file must define one of the two.
    let named = String(file.dropLast()) + #","image_token_index":31999}"#
    let text = try read(named).text
    #expect(text.kind == .llama)
    #expect(sizes(text) == [4096, 11_008, 32, 32, 32, 128, 32_000, 2048])
    #expect(text.rmsNormEpsilon == 1e-6 && text.ropeTheta == 10_000)
  }

  @Test func `has Mistral's values for missing keys`() throws {
    let members = #""image_token_index":9,"text_config":{"model_type":"mistral"}"#
    let text = try read(llava(members)).text
    #expect(text.kind == .mistral)
    #expect(sizes(text) == [4096, 14_336, 32, 32, 8, 128, 32_000, 131_072])
    #expect(text.rmsNormEpsilon == 1e-6 && text.ropeTheta == 10_000)
  }

  @Test func `has Qwen2's values and biases, and no sliding window unless it is enabled`() throws {
    let members = #""image_token_index":9,"text_config":{"model_type":"qwen2","sliding_window":4096}"#
    let text = try read(llava(members)).text
    #expect(sizes(text) == [4096, 22_016, 32, 32, 32, 128, 151_936, 32_768])
    #expect(text.kind == .qwen2 && text.attentionBias == .queriesKeysValues)
    #expect(try read(llava(#""image_token_index":9,"text_config":{"attention_bias":true}"#)).text.attentionBias == .all)
    #expect(try read(llava(#""image_token_index":9"#)).text.attentionBias == .none)
    expectError(
      llava(
        #""image_token_index":9,"text_config":{"model_type":"qwen2","sliding_window":4096,"use_sliding_window":true}"#),
      "text_config.sliding_window")
  }

  @Test func `reads RoPE scaling`() throws {
    let llama3 = #""rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4"#
    for (member, scaling) in [
      (#""rope_scaling":{"type":"linear","factor":2.5}"#, RotaryScaling.linear(factor: 2.5)),
      (#""rope_scaling":{"rope_type":"default"}"#, .none),
      (
        #""rope_scaling":{\#(llama3),"original_max_position_embeddings":8192}"#,
        .llama3(factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContextLength: 8192)
      ),
    ] {
      #expect(try read(llava(#""image_token_index":9,"text_config":{\#(member)}"#)).text.ropeScaling == scaling)
    }
  }

  @Test func `has CLIP's values for missing keys, and those of CLIP ViT-L/14-336 for a missing section`() throws {
    let large = try read(llava(#""image_token_index":9"#)).vision
    #expect(sizes(large) == [1024, 4096, 24, 16, 336, 14] && large.patchCount == 576)
    let base = try read(llava(#""image_token_index":9,"vision_config":{}"#)).vision
    #expect(sizes(base) == [768, 3072, 12, 12, 224, 32] && base.patchCount == 49)
    for visionTower in [large, base] {
      #expect(visionTower.layerNormEpsilon == 1e-5 && visionTower.activation == .quickGELU)
    }
  }

  @Test(arguments: [
    (#""image_token_index":7"#, 7), (#""image_token_id":7"#, 7), (#""image_token_index":7,"image_token_id":8"#, 7),
    (#""text_config":{"vocab_size":32064}"#, 32_000), (#""image_token_index":0"#, 0),
  ])
  func `reads the image token by both names`(members: String, token: Int) throws {
    #expect(try read(llava(members)).imageTokenID == token)
  }

  @Test(arguments: [
    ("", false), (#","tie_word_embeddings":true"#, true), (#","text_config":{"tie_word_embeddings":true}"#, true),
    (#","tie_word_embeddings":true,"text_config":{"tie_word_embeddings":false}"#, false),
    (#","tie_word_embeddings":false,"text_config":{"tie_word_embeddings":true}"#, true),
  ])
  func `prefers tie_word_embeddings of text_config`(members: String, ties: Bool) throws {
    #expect(try read(llava(#""image_token_index":9"# + members)).tiesWordEmbeddings == ties)
  }

  @Test(arguments: [(-2, 23), (-1, 24), (-25, 0), (0, 0), (24, 24)])
  func `counts the feature layer from either end`(layer: Int, needed: Int) throws {
    let configuration = try read(llava(#""image_token_index":9,"vision_feature_layer":\#(layer)"#))
    #expect(configuration.visionLayersNeeded == needed)
    #expect(configuration.visualTokensPerView == 576)
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
    (#""rope_scaling":{"type":"dynamic","factor":2}"#, "rope_scaling.rope_type"),
    (#""rope_parameters":{"rope_type":"yarn","rope_theta":1e6}"#, "rope_scaling.rope_type"),
    (#""hidden_act":"gelu""#, "hidden_act"), (#""mlp_bias":true"#, "mlp_bias"),
    (#""sliding_window":4"#, "sliding_window"), (#""model_type":"phi3""#, "model_type"),
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
    (#""layer_norm_eps":2"#, "layer_norm_eps"), (#""model_type":"siglip_vision_model""#, "model_type"),
  ]

  @Test(arguments: invalidVision)
  func `refuses a value of the vision encoder and names its key`(member: String, key: String) throws {
    expectError(llava(#""image_token_index":9,"vision_config":{\#(member)}"#), "vision_config." + key)
  }

  @Test(arguments: [
    (#"{}"#, "model_type"), (#"{"model_type":"llava_onevision"}"#, "model_type"),
    (#"{"model_type":"llama"}"#, "model_type"),
    (#"{"model_type":"llava","image_token_index":32000}"#, "image_token_index"),
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
    "null", "[]", "3", "{", "not JSON", #"{"model_type":5}"#, #"{"model_type":"llava","text_config":[]}"#,
    #"{"model_type":"llava","text_config":{"hidden_size":"4096"}}"#,
    #"{"model_type":"llava","text_config":{"hidden_size":4096.5}}"#,
    #"{"model_type":"llava","text_config":{"hidden_size":99999999999999999999}}"#,
    #"{"model_type":"llava","text_config":{"rms_norm_eps":1e999}}"#,
    #"{"model_type":"llava","text_config":{"rope_scaling":"linear"}}"#,
    #"{"model_type":"llava","text_config":{"attention_bias":"no"}}"#,
    #"{"model_type":"llava","vision_feature_layer":[-2,-5]}"#, #"{"model_type":"llava","vision_config":7}"#,
    #"{"model_type":"llava","image_token_index":true}"#, "{\"model_type\":\"\u{0}",
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
    let error = #expect(throws: CheckpointError.self) { try JSONFile.read(PreprocessorConfiguration.self, at: path) }
    guard case .badValue(path, "resample", _, "2") = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }
}
