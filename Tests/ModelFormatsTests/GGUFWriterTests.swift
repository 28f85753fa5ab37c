import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

@Suite struct GGUFWriterTests {
  @Test func `writes what it reads back`() throws {
    let folder = try TemporaryFolder()
    var writer = GGUFWriter()
    writer.set("general.architecture", .text("llama"))
    writer.set("a", .integer(7))
    writer.set("b", .real(0.5))
    writer.set("c", .bool(true))
    writer.set("d", .integers([1, -2]))
    writer.set("e", .reals([0.25]))
    writer.set("f", .texts(["x", "", "ä"]))
    let tensors = [
      "x": Tensor([1, 2, 3], shape: [3]), "y": Tensor((0..<64).map { Float($0) }, shape: [2, 32]),
      "z": Tensor(SharedBytes(copying: (0..<68).map { UInt8($0) }), shape: [2, 32], type: .blocks(.q8zero)),
    ]
    for (name, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      writer.add(name, tensor.type, shape: tensor.shape)
    }
    let path = folder.path("a.gguf")
    try writer.write(to: path) { name throws(CheckpointError) in
      guard let tensor = tensors[name] else { throw .missingTensor(name: name, directory: "") }
      return tensor
    }
    let file = try GGUFFile(path)
    #expect(file.storage.count == writer.byteCount)
    for (name, tensor) in tensors {
      let read = try file.tensor(name)
      #expect(read.shape == tensor.shape && read.type == tensor.type)
      #expect(read.storedBytes.copy(0..<read.byteCount) == tensor.storedBytes.copy(0..<tensor.byteCount))
    }
    let metadata = file.metadata
    #expect(try metadata.integer("a") == 7 && metadata.bool("c") == true && metadata.integers("d") == [1, -2])
    #expect(try metadata.floats("e") == [0.25] && metadata.strings("f") == ["x", "", "ä"])
  }

  @Test func `leaves no file if a tensor is missing`() throws {
    let folder = try TemporaryFolder()
    var writer = GGUFWriter()
    writer.add("x", .floats(.f32), shape: [1])
    let error = CheckpointError.missingTensor(name: "x", directory: "m")
    #expect(throws: error) {
      try writer.write(to: folder.path("a.gguf")) { _ throws(CheckpointError) in throw error }
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
  }

  /// Writes both files of a model with all tensors as they are, and opens them.
  private func rewritten(_ files: any ModelFiles, in folder: borrowing TemporaryFolder) throws -> any ModelFiles {
    try write(GGUFExport.languageModel(files.configuration, name: "m"), of: files, to: folder.path("model.gguf"))
    try write(
      GGUFExport.visionEncoder(files.configuration, files.preprocessor(), name: "m"), of: files,
      to: folder.path("mmproj.gguf"))
    return try ModelSearch.open(folder.path)
  }

  private func write(_ export: GGUFExport, of files: some ModelFiles, to path: String) throws {
    var writer = GGUFWriter()
    for (key, value) in export.metadata { writer.set(key, value) }
    var parts: [String: GGUFExport.Part] = [:]
    for part in export.parts {
      parts[part.storedName] = part
      writer.add(part.storedName, try export.tensor(part, of: files).type, shape: part.shape)
    }
    try writer.write(to: path) { name throws(CheckpointError) in
      guard let part = parts[name] else { throw .missingTensor(name: name, directory: path) }
      return try export.tensor(part, of: files)
    }
  }

  @Test(arguments: ["tiny-llava-1.5", "tiny-llava-1.5-bf16", "tiny-llava-next-mistral", "tiny-llava-onevision"])
  func `writes a pair with the tensors of a directory`(name: String) throws {
    let folder = try TemporaryFolder()
    let files = try ModelSearch.open(Goldens.path("models/\(name)"))
    let pair = try rewritten(files, in: folder)
    var (expected, found) = (files.configuration, pair.configuration)
    #expect(found.layout == .gguf && found.visionLayersNeeded == expected.visionLayersNeeded)
    #expect(found.anyResolution == expected.anyResolution && found.modelType == expected.modelType)
    #expect(found.tiesWordEmbeddings == expected.tiesWordEmbeddings)
    // A GGUF file has no family, and ends with the last layer that is used.
    let layerCount = expected.visionLayersNeeded
    expected.text.kind = found.text.kind
    expected.vision?.layerCount = layerCount
    #expect(found.text == expected.text && found.vision == expected.vision)
    for export in [
      try GGUFExport.languageModel(expected, name: "m"), try GGUFExport.visionEncoder(found, nil, name: "m"),
    ] {
      for part in export.parts {
        #expect(
          try pair.tensor(part.name, shape: part.shape).floats() == files.tensor(part.name, shape: part.shape).floats(),
          "\(part.name)")
      }
    }
  }

  /// The converters of llama.cpp wrote these, so their bytes are the order of rows that the writer has to restore.
  @Test(arguments: [("mistral-256", "q4_k_m"), ("next-mistral-64", "q8_0"), ("qwen2-64", "q4_k_m")])
  func `writes the tensors of a golden pair byte for byte`(model: String, kind: String) throws {
    let folder = try TemporaryFolder()
    let golden = Goldens.path("gguf/models/\(model)")
    _ = try rewritten(ModelSearch.open("\(golden)/ggml-model-\(kind).gguf"), in: folder)
    for (written, original) in [("model", "ggml-model-\(kind)"), ("mmproj", "mmproj-model-f16")] {
      let (a, b) = (try GGUFFile(folder.path("\(written).gguf")), try GGUFFile("\(golden)/\(original).gguf"))
      #expect(a.records.mapValues(\.shape) == b.records.mapValues(\.shape))
      for (name, info) in b.records {
        let found = try #require(a.records[name])
        #expect(found.elementName == info.elementName && a.storage.copy(found.bytes) == b.storage.copy(info.bytes))
      }
    }
  }
}
