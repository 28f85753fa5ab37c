import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

private typealias F = SafetensorsFixtures

/// The files of a checkpoint as people have them: shards without an index, adapters, quantized weights, prefixes.
@Suite struct WeightFilesTests {
  @Test(arguments: [
    ("model", "safetensors", 2), ("model", "safetensors", 3), ("model", "safetensors", 1),
  ])
  func `reads shards without an index`(stem: String, ending: String, count: Int) throws {
    let folder = try TemporaryFolder()
    for i in 1...count { try folder.write("\(stem)-0000\(i)-of-0000\(count).\(ending)", F.tensors(["t\(i)"])) }
    try folder.write("model-1-of-2.safetensors", "x")
    try folder.write("model-00009-of-00002.safetensors", "x")
    let checkpoint = try Checkpoint(directory: folder.path)
    #expect(checkpoint.unreadNames == (1...count).map { "t\($0)" })
    #expect(checkpoint.notes == [.shardsWithoutIndex(count: count)])
  }

  @Test func `names missing shards and shards of two checkpoints`() throws {
    let folder = try TemporaryFolder()
    try folder.write("model-00002-of-00004.safetensors", F.tensors(["a"]))
    try folder.write("model-00004-of-00004.safetensors", F.tensors(["b"]))
    let missing = ["model-00001-of-00004.safetensors", "model-00003-of-00004.safetensors"]
    let directory = folder.path
    #expect(throws: CheckpointError.missingShards(directory: directory, missing: missing, total: 4)) {
      try Checkpoint(directory: directory)
    }
    try folder.write("model-00001-of-00002.safetensors", F.tensors(["a"]))
    let error = #expect(throws: CheckpointError.self) { try Checkpoint(directory: directory) }
    guard case .ambiguousShards(_, let found) = error, found.count == 3 else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test func `notes which of several weight files is read`() throws {
    let folder = try TemporaryFolder()
    try folder.write("model.safetensors", F.tensors(["a", "b"]))
    try folder.write("model-00001-of-00002.safetensors", F.tensors(["a"]))
    try folder.write("model-00002-of-00002.safetensors", F.tensors(["b"]))
    let index = #"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#
    try folder.write("model.safetensors.index.json", index)
    let note = try #require(try Checkpoint(directory: folder.path).notes.first)
    #expect(
      "\(note)" == "the weights are model.safetensors; model.safetensors.index.json, model-00001-of-00002.safetensors, "
        + "model-00002-of-00002.safetensors are not read")
    try FileManager.default.removeItem(atPath: folder.path("model.safetensors"))
    #expect(try Checkpoint(directory: folder.path).notes.isEmpty)
  }

  @Test func `reads a tensor from another shard than the index says`() throws {
    let folder = try TemporaryFolder()
    try folder.write("1.safetensors", F.tensors(["a", "b"]))
    try folder.write("2.safetensors", F.tensors(["c"]))
    func write(_ map: String) throws { try folder.write("model.safetensors.index.json", #"{"weight_map": \#(map)}"#) }
    // `b` is in the first file, and `c` is not in the index.
    try write(#"{"a": "1.safetensors", "b": "2.safetensors"}"#)
    let checkpoint = try Checkpoint(directory: folder.path)
    #expect(["a", "b", "c"].allSatisfy(checkpoint.contains))
    try write(#"{"a": "1.safetensors", "d": "2.safetensors"}"#)
    #expect(throws: CheckpointError.missingTensor(name: "d", directory: folder.path("2.safetensors"))) {
      try Checkpoint(directory: folder.path)
    }
  }

  @Test(arguments: ["LORA", "IA3"])
  func `refuses an adapter without its base model, with or without config.json`(kind: String) throws {
    let folder = try TemporaryFolder()
    try folder.write("adapter_config.json", #"{"peft_type":"\#(kind)","base_model_name_or_path":"some/base"}"#)
    try folder.write("adapter_model.safetensors", F.tensors(["a"]))
    let name = kind == "LORA" ? "LoRA" : #""IA3""#
    let error = CheckpointError.adapterAlone(directory: folder.path, kind: name, base: "some/base")
    let directory = folder.path
    #expect(throws: error) { try ModelDirectory(directory) }
    try folder.write("config.json", #"{"model_type":"llava"}"#)
    #expect(throws: error) { try ModelDirectory(directory) }
    #expect(error.description.contains("merge") && error.description.contains("some/base"))
    // Next to whole weights an adapter is only reported.
    try folder.write("model.safetensors", F.tensors(["a"]))
    let notes = try Checkpoint(directory: directory).notes
    #expect(notes == [.adapterNotApplied(file: "adapter_model.safetensors")] && notes[0].isWarning)
  }

  @Test(arguments: [
    "language_model.model.layers.0.self_attn.q_proj.lora_A.weight", "a.lora_B.default.weight",
    "base_model.model.model.layers.0.mlp.up_proj.base_layer.weight", "a.lora_embedding_A.default",
    "a.lora_magnitude_vector.default.weight",
  ])
  func `refuses an adapter that is not merged`(name: String) throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("model.safetensors", F.tensors(["b", name]))
    let directory = folder.path
    #expect(throws: CheckpointError.unmergedAdapter(file: path, tensor: name)) { try Checkpoint(directory: directory) }
  }

  @Test(arguments: [
    ("qweight", "AWQ or GPTQ"), ("weight.quant_state.bitsandbytes__nf4", "bitsandbytes"), ("SCB", "bitsandbytes"),
    ("W_q", "HQQ"), ("weight_packed", "compressed-tensors"), ("weight_scale_inv", "FP8 or int8 with scales"),
    ("weight._data", "quanto"), ("weight_scales", "FP8 or int8 with scales"),
  ])
  func `refuses quantized tensors by their method`(ending: String, method: String) throws {
    let folder = try TemporaryFolder()
    let name = "language_model.model.layers.0.self_attn.q_proj." + ending
    let path = try folder.write("model.safetensors", F.tensors([name]))
    let directory = folder.path
    let error = #expect(throws: CheckpointError.self) { try Checkpoint(directory: directory) }
    guard case .quantized(path, method, _, nil) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }

  @Test(arguments: [
    (#""quantization_config":{"quant_method":"awq","bits":4}"#, "AWQ, 4 bits"),
    (#""quantization_config":{"quant_method":"gptq"}"#, "GPTQ"),
    (#""quantization_config":{"load_in_4bit":true}"#, "bitsandbytes"),
    (#""text_config":{"quantization_config":{"quant_method":"hqq"}}"#, "HQQ"),
    (#""quantization_config":{"quant_method":"fp8"}"#, "FP8"),
    (#""quantization_config":{"quant_method":"mine"}"#, #""mine""#),
    (#""quantization_config":{}"#, "a method without a name"),
    (#""quantization":{"group_size":64,"bits":4}"#, "MLX, 4 bits"),
  ])
  func `refuses the quantization of config.json before the weights are opened`(member: String, method: String) throws {
    let folder = try TemporaryFolder()
    let directory = folder.path
    for layout in [#""model_type":"llava""#, #""model_type":"llava_llama","mm_projector_type":"mlp2x_gelu""#] {
      guard !layout.contains("mm_") || !member.contains("text_config") else { continue }
      try folder.write("config.json", #"{\#(layout),"_name_or_path":"org/whole",\#(member)}"#)
      let error = #expect(throws: CheckpointError.self) { try ModelDirectory(directory) }
      guard case .quantized(directory, method, _, "org/whole") = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
      #expect(error?.description.contains("take the directory of the model before quantization") == true)
    }
    try folder.write("config.json", #"{"model_type":"llava","quantization_config":null}"#)
    #expect(throws: CheckpointError.noWeights(directory: directory, found: [])) { try ModelDirectory(directory) }
  }

  private static let canonical = ["language_model.lm_head.weight", "language_model.model.layers.0.mlp.up_proj.weight"]

  @Test(arguments: [
    ("module.", ["language_model.lm_head.weight", "language_model.model.layers.0.mlp.up_proj.weight"]),
    ("base_model.model.", ["lm_head.weight", "model.layers.0.mlp.up_proj.weight"]),
    ("module.base_model.model.", ["lm_head.weight", "model.language_model.layers.0.mlp.up_proj.weight"]),
    ("_orig_mod.", ["lm_head.weight", "model.layers.0.mlp.up_proj.weight"]),
    ("model.", ["language_model.lm_head.weight", "language_model.model.layers.0.mlp.up_proj.weight"]),
    ("model.", ["lm_head.weight", "model.layers.0.mlp.up_proj.weight"]),
    ("module.model.", ["lm_head.weight", "model.language_model.layers.0.mlp.up_proj.weight"]),
    ("", ["lm_head.weight", "model.layers.0.mlp.up_proj.weight"]),
  ])
  func `removes the prefix of a training program from all names`(prefix: String, names: [String]) throws {
    let folder = try TemporaryFolder()
    try folder.write("model.safetensors", F.tensors(names.map { prefix + $0 }))
    let checkpoint = try Checkpoint(directory: folder.path)
    #expect(checkpoint.unreadNames == Self.canonical)
    #expect(checkpoint.notes == (prefix.isEmpty ? [] : [.removedPrefix(prefix)]))
  }

  @Test(arguments: [
    (["model.layers.0.x"], "model.mm_projector.0.weight", "lm_head.weight"),
    (["model.language_model.layers.0.x"], "model.multi_modal_projector.linear_1.weight", "lm_head.weight"),
    (["language_model.model.layers.0.x"], "multi_modal_projector.linear_1.weight", "language_model.lm_head.weight"),
  ])
  func `names a missing tensor as the layout spells it`(stored: [String], projector: String, head: String) throws {
    let folder = try TemporaryFolder()
    try folder.write("model.safetensors", F.tensors(stored))
    let checkpoint = try Checkpoint(directory: folder.path)
    let directory = folder.path
    #expect(throws: CheckpointError.missingTensor(name: projector, directory: directory)) {
      try checkpoint.tensor("multi_modal_projector.linear_1.weight", shape: [1])
    }
    #expect(throws: CheckpointError.missingTensor(name: head, directory: directory)) {
      try checkpoint.tensor("language_model.lm_head.weight", shape: [1])
    }
    try folder.write("mm_projector.bin", "x")
    let apart = CheckpointError.projectorApart(tensor: projector, directory: directory, file: "mm_projector.bin")
    #expect(throws: apart) { try checkpoint.tensor("multi_modal_projector.linear_1.weight", shape: [1]) }
  }

  @Test func `reads a patch embedding with channels last`() throws {
    let folder = try TemporaryFolder()
    let (outputs, side, channels) = (5, 2, 3)
    var writer = SafetensorsWriter()
    // [output, row, column, channel] counts upwards.
    writer.add(
      "v.c.weight", (0..<outputs * side * side * channels).map(Float.init), shape: [outputs, side, side, channels])
    try folder.write("model.safetensors", writer.encoded())
    let checkpoint = try Checkpoint(directory: folder.path)
    let layer = try checkpoint.scope("v").convolution("c", channels: channels, side: side, outputs: outputs)
    var expected: [Float] = []
    for o in 0..<outputs {
      for c in 0..<channels {
        for p in 0..<side * side { expected.append(Float((o * side * side + p) * channels + c)) }
      }
    }
    guard case .native(let weight) = layer.weight else {
      Issue.record("\(layer.computeType)")
      return
    }
    #expect(weight.floats() == expected && weight.shape == [outputs, channels, side, side])
    #expect(checkpoint.notes == [.channelsLast(tensor: "v.c.weight")] && checkpoint.unreadNames.isEmpty)
  }

  @Test func `warns of tensors of another decoder, and lists the others`() {
    let layer = "language_model.model.layers.1.self_attn.q_norm.weight"
    let names = [layer, "language_model.model.layers.2.x"] + (0..<8).map { "x\($0)" }
    let notes = LoadNote.notes(unusedTensors: names, layerCount: 2)
    #expect(notes[0] == .unexpectedTensors(count: 1, first: layer) && notes[0].isWarning)
    #expect(notes.count == 10 && notes[9] == .moreUnusedTensors(count: 2) && !notes[9].isWarning)
  }
}

/// Files of one directory that contradict each other.
@Suite struct ContradictionTests {
  private func notes(_ files: [String: String], golden: String = "tiny-llava-1.5") throws -> [String] {
    let folder = try TemporaryFolder()
    for name in ["config.json", "model.safetensors", "generation_config.json"] {
      try FileManager.default.createSymbolicLink(
        at: folder.url.appending(path: name), withDestinationURL: Goldens.url("models/\(golden)/\(name)"))
    }
    for (name, text) in files {
      try? FileManager.default.removeItem(atPath: folder.path(name))
      try folder.write(name, text)
    }
    return try ModelDirectory(folder.path).notes(imageToken: "<image>").map { "\($0)" }
  }

  @Test(arguments: [
    (#""patch_size":16"#, "patch_size 16 contradicts 14 of config.json"),
    (#""vision_feature_select_strategy":"full""#, #"vision_feature_select_strategy "full" contradicts 'default'"#),
    (#""image_token":"<img>""#, #"image_token "<img>" contradicts "<image>" of the tokenizer"#),
    (#""num_additional_image_tokens":0"#, "num_additional_image_tokens 0 contradicts 1, the number of class tokens"),
  ])
  func `notes the values of processor_config.json that are not followed`(member: String, note: String) throws {
    for name in ["processor_config.json", "preprocessor_config.json"] {
      let notes = try notes([name: "{\(member)}"])
      #expect(notes.count == 1 && notes[0].hasPrefix("\(name): \(note)"), "\(notes)")
    }
  }

  @Test func `notes nothing if the files agree, and EOS tokens if they differ`() throws {
    let agreeing =
      #"{"patch_size":14,"vision_feature_select_strategy":"default","image_token":{"content":"<image>"},"#
      + #""num_additional_image_tokens":1,"image_processor":{"image_std":[1,1,1]}}"#
    #expect(try notes(["processor_config.json": agreeing]) == [])
    let both = try notes(["processor_config.json": agreeing, "preprocessor_config.json": "{}"])
    #expect(
      both == ["processor_config.json: image_processor an object contradicts preprocessor_config.json, and is not used"]
    )
    let unusable = try notes([
      "processor_config.json": #"{"image_processor":{"resample":99}}"#, "preprocessor_config.json": "{}",
    ])
    #expect(unusable == both)
    let text = try String(contentsOf: Goldens.url("models/tiny-llava-1.5/config.json"), encoding: .utf8)
    let configuration = text.replacing(/^{/, with: #"{"eos_token_id": 2,"#)
    #expect(try notes(["config.json": configuration]) == [])
    let generation = #"{"eos_token_id":[7,5]}"#
    let tokens = try notes(["config.json": configuration, "generation_config.json": generation])
    #expect(tokens == ["config.json: eos_token_id 2 contradicts 5, 7 of generation_config.json, and is not used"])
  }

  @Test func `notes options of generation that are not applied`() throws {
    let neutral = #"{"repetition_penalty":1.0,"num_beams":1,"bad_words_ids":null,"suppress_tokens":[],"top_k":5}"#
    #expect(try notes(["generation_config.json": neutral]) == [])
    let options = #"{"repetition_penalty":1.05,"min_new_tokens":3,"suppress_tokens":[7]}"#
    let end = "which transformers applies, is not applied; answers may differ"
    #expect(
      try notes(["generation_config.json": options])
        == ["repetition_penalty 1.05", "min_new_tokens 3", "suppress_tokens a list"]
        .map { "generation_config.json: \($0), \(end)" })
  }

  @Test func `ties the embeddings of the top level only without an output head`() throws {
    let text = try String(contentsOf: Goldens.url("models/tiny-llava-1.5/config.json"), encoding: .utf8)
    let tied = text.replacing(/"tie_word_embeddings": *false,?/, with: "")
      .replacing(/^{/, with: #"{"tie_word_embeddings": true,"#)
    let notes = try notes(["config.json": tied])
    #expect(notes.count == 1 && notes[0].contains("the output head is lm_head.weight"), "\(notes)")
  }
}
