import Foundation
import TestSupport
import Testing

/// `pdrop-run quantize` as a process, with the bundled model.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct QuantizeTests {
  private static let bundled = Goldens.path("../../Models/tiny-textvqa")
  private static let question = [
    "-t", "2", "-n", "8", "-p", "What number is at the top right?", "--image",
    Goldens.path("../../Models/samples/bike.png"),
  ]

  private func quantize(_ arguments: [String]) throws -> ProgramRun {
    try ProgramRun(["quantize", "-t", "2"] + arguments)
  }

  /// Replaces the first value of a tensor in bf16.
  private static func change(_ name: String, to value: Float, in path: String) throws {
    var bytes = try Data(contentsOf: URL(filePath: path))
    let count = bytes[0..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
    let header = try JSONSerialization.jsonObject(with: bytes[8..<8 + count]) as? [String: Any]
    let tensor = try #require(header?[name] as? [String: Any])
    let offsets = try #require(tensor["data_offsets"] as? [Int])
    #expect(tensor["dtype"] as? String == "BF16")
    let start = 8 + count + offsets[0]
    bytes[start] = UInt8(value.bitPattern >> 16 & 0xFF)
    bytes[start + 1] = UInt8(value.bitPattern >> 24)
    try bytes.write(to: URL(filePath: path))
  }

  private func size(_ path: String) throws -> Int {
    try #require(FileManager.default.attributesOfItem(atPath: path)[.size] as? Int)
  }

  @Test(arguments: [(nil, "int4", 0.35), ("q4_k", "int4", 0.35), ("q6_k", "f32", 0.6), ("q8_0", "f32", 0.6)])
  func `the pair answers as the model`(type: String?, precision: String, share: Double) throws {
    let folder = try TemporaryFolder()
    let path = folder.path("model.gguf")
    let run = try quantize(["-m", Self.bundled, "--output", path] + (type.map { ["--type", $0] } ?? []))
    #expect(run.status == 0 && run.output.isEmpty, "\(run.errors)")
    #expect(run.errorLines.count { $0.hasPrefix("wrote ") } == 2, "\(run.errors)")
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    #expect(names == ["mmproj-model.gguf", "model.gguf"])
    // Of the bf16 weights of the decoder.
    let stored = try size(Self.bundled + "/model.safetensors")
    let quantized = try size(path)
    #expect(Double(quantized) < share * Double(stored), "\(quantized) of \(stored)")

    let question = Self.question + ["--precision", precision]
    let pair = try ProgramRun(question + ["-m", path])
    let model = try ProgramRun(question + ["-m", Self.bundled])
    #expect(pair.status == 0 && pair.errors.isEmpty && !pair.output.isEmpty, "\(pair.errors)")
    #expect(pair.output == model.output)
    // The directory, and the file of the vision encoder, which may have any name.
    #expect(try ProgramRun(question + ["-m", folder.path]).output == model.output)
    try FileManager.default.moveItem(atPath: folder.path("mmproj-model.gguf"), toPath: folder.path("vision.bin"))
    let named = try ProgramRun(question + ["-m", path, "--mmproj", folder.path("vision.bin")])
    #expect(named.output == model.output, "\(named.errors)")
  }

  @Test func `quantizes a GGUF model, and replaces files on request`() throws {
    let folder = try TemporaryFolder()
    let source = Goldens.path("gguf/models/mistral-256")
    let path = folder.path("small.gguf")
    let model = ["-m", source + "/ggml-model-q4_k_m.gguf"]
    #expect(try quantize(model + ["--output", path, "--type", "q8_0"]).status == 0)
    let question = ["-t", "2", "-n", "8", "-p", "What is it?", "--precision", "f32"]
    let (pair, original) = try (ProgramRun(question + ["-m", path]), ProgramRun(question + model))
    #expect(pair.status == 0 && pair.output == original.output, "\(pair.errors)")
    let bytes = try Data(contentsOf: URL(filePath: path))
    try quantize(model + ["--output", path]).expectFailure(2, "small.gguf exists")
    #expect(try Data(contentsOf: URL(filePath: path)) == bytes)
    #expect(try quantize(model + ["--output", path, "--overwrite"]).status == 0)
    #expect(try size(path) < bytes.count)
    // A model is not replaced by what is made from it, which has less.
    let small = try Data(contentsOf: URL(filePath: path))
    try quantize(["-m", path, "--output", path, "--type", "q8_0", "--overwrite"])
      .expectFailure(3, "small.gguf: cannot be written")
    try quantize(["-m", path, "--output", folder.path("../\(folder.url.lastPathComponent)/small.gguf"), "--overwrite"])
      .expectFailure(3, "give another path")
    #expect(try Data(contentsOf: URL(filePath: path)) == small)
  }

  @Test func `does not replace the vision encoder of its model`() throws {
    let folder = try TemporaryFolder()
    let source = Goldens.path("gguf/models/vicuna-64")
    for (name, copy) in [("ggml-model-q8_0", "a"), ("mmproj-model-q8_0", "mmproj-b")] {
      try FileManager.default.copyItem(atPath: "\(source)/\(name).gguf", toPath: folder.path(copy + ".gguf"))
    }
    let arguments = ["-m", folder.path("a.gguf"), "--output", folder.path("b.gguf"), "--overwrite"]
    try quantize(arguments).expectFailure(3, "mmproj-b.gguf")
    #expect(!FileManager.default.fileExists(atPath: folder.path("b.gguf")))
  }

  @Test func `refuses weights that are not numbers`() throws {
    let name = "language_model.model.layers.0.self_attn.q_proj.weight"
    for value in [Float.nan, .infinity] {
      let folder = try TemporaryFolder()
      let model = folder.path("model")
      try FileManager.default.copyItem(atPath: Self.bundled, toPath: model)
      try Self.change(name, to: value, in: model + "/model.safetensors")
      try quantize(["-m", model, "--output", folder.path("a.gguf")])
        .expectFailure(3, "\(name) has values that are infinite or not numbers")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["model"])
      let question = ["-t", "1", "-n", "2", "-p", "a", "-m", model, "--precision"]
      for precision in ["f32", "int8", "int4"] {
        try ProgramRun(question + [precision]).expectFailure(1, "is not a number; are the weights damaged?")
      }
    }
  }

  @Test func `quantizes a GGUF model beside several vision encoders if one is named`() throws {
    let folder = try TemporaryFolder()
    let source = Goldens.path("gguf/models/vicuna-64")
    let arguments = ["-m", source + "/ggml-model-q8_0.gguf", "--output", folder.path("out.gguf")]
    try quantize(arguments).expectFailure(3, "name the vision encoder's file with --mmproj")
    let run = try quantize(arguments + ["--mmproj", source + "/mmproj-model-q8_0.gguf"])
    #expect(run.status == 0, "\(run.errors)")
    #expect(try ProgramRun(["-t", "2", "-n", "2", "-p", "a", "-m", folder.path]).status == 0)
  }

  @Test func `refuses existing files, other endings and missing models`() throws {
    let folder = try TemporaryFolder()
    let model = ["-m", Self.bundled, "--output"]
    try quantize(model + [folder.path("model.bin")]).expectFailure(2, "--output must end in .gguf")
    try quantize(model + [folder.path("model.gguf"), "--type", "q3_k"]).expectFailure(2, "q4_k")
    try quantize(model + [folder.path("model.gguf"), "-t", "0"]).expectFailure(2, "--threads")
    try quantize(["--output", folder.path("model.gguf")]).expectFailure(2, "--model")
    try quantize(["-m", Self.bundled]).expectFailure(2, "--output")
    try quantize(["-m", folder.path("none"), "--output", folder.path("model.gguf")])
      .expectFailure(3, "expected a model directory")
    try quantize(model + [folder.path("none/model.gguf")]).expectFailure(3, folder.path("none"))
    try folder.write("mmproj-model.gguf", "x")
    try quantize(model + [folder.path("model.gguf")]).expectFailure(2, "mmproj-model.gguf exists")
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["mmproj-model.gguf"])
  }
}
