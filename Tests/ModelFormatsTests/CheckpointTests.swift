import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

private typealias F = SafetensorsFixtures

@Suite struct CheckpointTests {
  private func index(_ map: [String: String]) throws -> Data {
    try JSONEncoder().encode(["weight_map": map])
  }

  @Test(arguments: [
    ["language_model.model.embed_tokens.weight", "vision_tower.x", "language_model.lm_head.weight", "image_newline"],
    ["model.language_model.embed_tokens.weight", "model.vision_tower.x", "lm_head.weight", "model.image_newline"],
  ])
  func `finds tensors by either naming`(stored: [String]) throws {
    let folder = try TemporaryFolder()
    try folder.write("model.safetensors", F.tensors(stored, dtype: "U8", shape: "[1]", bytes: 1))
    let checkpoint = try Checkpoint(directory: folder.path)
    let expected = [
      "image_newline", "language_model.lm_head.weight", "language_model.model.embed_tokens.weight", "vision_tower.x",
    ]
    #expect(checkpoint.unreadNames == expected)
  }

  @Test(arguments: ["", "vision_tower.", "model.vision_tower."])
  func `finds CLIP's modules without vision_model, as version 5 of the reference library writes them`(
    prefix: String
  ) throws {
    let folder = try TemporaryFolder()
    let modules = ["embeddings.class_embedding", "encoder.layers.0.x", "post_layernorm.bias", "pre_layrnorm.bias"]
    try folder.write("model.safetensors", F.tensors(modules.map { prefix + $0 }))
    let canonical = (prefix.isEmpty ? "" : "vision_tower.") + "vision_model."
    #expect(try Checkpoint(directory: folder.path).unreadNames == modules.map { canonical + $0 })
  }

  @Test func `refuses two names of one tensor`() throws {
    let folder = try TemporaryFolder()
    let names = ["lm_head.weight", "language_model.lm_head.weight"]
    let path = try folder.write("model.safetensors", F.tensors(names))
    #expect(throws: CheckpointError.duplicateTensor(name: names[1], file: path)) {
      try Checkpoint(directory: folder.path)
    }
  }

  @Test func `reads the tensors of all shards`() throws {
    let folder = try TemporaryFolder()
    try folder.write("1.safetensors", F.tensors(["a", "b"]))
    try folder.write("2.safetensors", F.tensors(["c"]))
    let map = ["a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"]
    try folder.write("model.safetensors.index.json", index(map))
    let checkpoint = try Checkpoint(directory: folder.path)
    #expect(checkpoint.unreadNames == ["a", "b", "c"])
    #expect(try checkpoint.tensor("a", shape: [2]).floats() == checkpoint.tensor("c", shape: [2]).floats())
    #expect(checkpoint.unreadNames == ["b"])
    #expect(checkpoint.byteCount == 24)
  }

  @Test func `names a missing shard, and a shard without its tensor`() throws {
    let folder = try TemporaryFolder()
    try folder.write("model.safetensors.index.json", index(["a": "1.safetensors"]))
    let shard = folder.path("1.safetensors")
    #expect(throws: CheckpointError.file(.notFound(path: shard))) { try Checkpoint(directory: folder.path) }
    try folder.write("1.safetensors", F.tensors(["b"]))
    #expect(throws: CheckpointError.missingTensor(name: "a", directory: shard)) {
      try Checkpoint(directory: folder.path)
    }
  }

  @Test(arguments: [
    "../x", "/etc/x", "x/y", "..", "", "../\u{301}x", "/", "1.safetensors\u{0}", "./1.safetensors",
  ])
  func `refuses a shard outside the folder`(name: String) throws {
    let folder = try TemporaryFolder()
    try folder.write("1.safetensors", F.tensors(["a"]))
    let path = try folder.write("model.safetensors.index.json", index(["a": name]))
    let error = CheckpointError.badValue(
      file: path, key: "weight_map.a", expected: "a file name", found: name.excerpt)
    #expect(throws: error) { try Checkpoint(directory: folder.path) }
  }

  @Test(arguments: ["", "[]", "{}", "{", #"{"weight_map":[]}"#, #"{"weight_map":{"a":1}}"#, #"{"weight_map":null}"#])
  func `refuses a malformed index`(text: String) throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("model.safetensors.index.json", text)
    let error = #expect(throws: CheckpointError.self) { try Checkpoint(directory: folder.path) }
    #expect(error?.description.hasPrefix(path) == true, "\(String(describing: error))")
  }

  @Test func `names a missing tensor, a wrong shape and an element type that is not a float`() throws {
    let folder = try TemporaryFolder()
    let header = F.header(
      F.entry("a", "F32", "[2,3]", "[0,24]"), F.entry("b", "F64", "[1]", "[24,32]"),
      F.entry("c", "I64", "[1]", "[32,40]"))
    let path = try folder.write("model.safetensors", F.file(header, payload: 40))
    let checkpoint = try Checkpoint(directory: folder.path)
    let directory = folder.path
    #expect(throws: CheckpointError.missingTensor(name: "x.weight", directory: directory)) {
      try checkpoint.scope("x").tensor("weight", shape: [1])
    }
    #expect(throws: CheckpointError.shapeMismatch(name: "a", expected: [3, 2], found: [2, 3], file: path)) {
      try checkpoint.tensor("a", shape: [3, 2])
    }
    for (name, type) in [("b", "F64"), ("c", "I64")] {
      #expect(throws: CheckpointError.unsupportedElement(name: name, found: type, file: path)) {
        try checkpoint.tensor(name, shape: [1])
      }
    }
  }

  @Test(arguments: ["model.safetensors", "pytorch_model.bin"])
  func `recognises a Git LFS pointer`(name: String) throws {
    let folder = try TemporaryFolder()
    try folder.write(name, Data("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n".utf8))
    let error = #expect(throws: CheckpointError.self) { try Checkpoint(directory: folder.path) }
    #expect(error?.description.contains("git lfs pull") == true)
  }

  @Test func `describes the conversion of other weights`() throws {
    let folder = try TemporaryFolder()
    let directory = folder.path
    #expect(throws: CheckpointError.noWeights(directory: directory, found: [])) {
      try Checkpoint(directory: directory)
    }
    try folder.write("consolidated.bin", "x")
    try folder.write("ggml-model.gguf", "x")
    let error = CheckpointError.noWeights(directory: directory, found: ["consolidated.bin", "ggml-model.gguf"])
    #expect(throws: error) { try Checkpoint(directory: directory) }
    #expect(error.description.contains("safe_serialization=True"))
  }
}
