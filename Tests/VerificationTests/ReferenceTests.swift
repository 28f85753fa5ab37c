import Foundation
import ModelTestSupport
import PDrop
import Storage
import TestSupport
import Testing
import Verification

/// References that are damaged or belong to another model are refused, with the file in the message.
@Suite struct ReferenceTests {
  private static let json = "reference/cases/tiny-llava-1.5/text_only.json"
  private static let tensors = "reference/cases/tiny-llava-1.5/text_only.safetensors"
  private let model: VisionLanguageModel

  init() throws { model = try VisionLanguageModel(directory: Goldens.path("models/tiny-llava-1.5")) }

  private func expectRefusal(
    _ words: String, _ name: String = "text_only", sourceLocation: SourceLocation = #_sourceLocation,
    _ change: (ChangedModel) throws -> Void
  ) throws {
    let changed = try ChangedModel(case: name)
    try change(changed)
    let error = #expect(throws: ReferenceError.self, sourceLocation: sourceLocation) {
      let check = try ModelCheck(model, ReferenceFolder(changed.reference, model: model.name), threads: 2)
      try check.validate(name)
      _ = try check.report(on: name)
    }
    let text = error?.description ?? ""
    #expect(text.contains(words) && text.contains(changed.reference), "\(text)", sourceLocation: sourceLocation)
    #expect(!text.contains("\n"), sourceLocation: sourceLocation)
  }

  @Test func `names a missing or truncated file`() throws {
    try expectRefusal("text_only.safetensors: no such file") { try $0.remove(Self.tensors) }
    try expectRefusal("expected reference vectors") { try $0.remove(Self.json) }
    for count in [0, 7, 100, 60_000] {
      try expectRefusal("text_only.safetensors") { try $0.write(Self.tensors, $0.bytes(Self.tensors).prefix(count)) }
      if count < 5000 {
        try expectRefusal("text_only.json") { try $0.write(Self.json, $0.bytes(Self.json).prefix(count)) }
      }
    }
    try expectRefusal("shapes_640x480.png: no such file", "multi_turn") { changed in
      try changed.remove("reference/images")
    }
    try expectRefusal("shapes_640x480.png.safetensors", "multi_turn") { changed in
      try changed.remove("reference/features")
      try changed.write("reference/features/tiny-llava-1.5/shapes_640x480.png.safetensors", [1, 2, 3])
    }
  }

  @Test(arguments: [
    ("prompt", "3", "prompt"), ("prompt_ids", #"["a"]"#, "prompt_ids"), ("runs", "[]", "runs"),
    ("sequence_length", "1e300", "text_only.json"), ("new_tokens", "9223372036854775807", "new_tokens"),
    ("new_tokens", "-1", "new_tokens"), ("images", #"["../../secret.png"]"#, "inside the reference"),
    ("images", #"["/etc/passwd"]"#, "inside the reference"), ("images", #"["images/none.png"]"#, "no such file"),
    ("images", #"[""]"#, "inside the reference"), ("images", #"["images"]"#, "expected a file"),
  ])
  func `refuses an invalid description`(key: String, value: String, words: String) throws {
    let value = try JSONSerialization.jsonObject(with: Data(value.utf8), options: .fragmentsAllowed)
    try expectRefusal(words) { changed in try changed.changeJSON(Self.json) { $0[key] = value } }
  }

  @Test(arguments: [
    ("USER: <image> ASSISTANT:", "no image is given"), (String(repeating: "a b ", count: 5000), "only 4096"),
  ])
  func `refuses a prompt that does not fit the images or the model`(prompt: String, words: String) throws {
    let tokens = try model.tokens(of: .rendered(prompt))
    try expectRefusal(words) { changed in
      try changed.changeJSON(Self.json) { file in
        file["prompt"] = prompt
        file["prompt_ids"] = tokens
      }
    }
  }

  @Test(arguments: [
    (#"{"method": "best"}"#, "'best'"), (#"{"method": "pyramiddrop"}"#, "layers and keep"),
    (#"{"method": "fastv", "k": 32, "r": 0.5}"#, "layer 32"),
    (#"{"method": "fastv", "k": -9223372036854775808, "r": 0.5}"#, "layer -9223372036854775808"),
    (#"{"method": "pyramiddrop", "layers": [8, 8], "keep": [0.5, 0.5]}"#, "strictly increasing"),
    (#"{"method": "pyramiddrop", "layers": [8], "keep": [-1e300]}"#, "out of range"),
  ])
  func `refuses an invalid policy`(policy: String, words: String) throws {
    let policy = try JSONSerialization.jsonObject(with: Data(policy.utf8))
    try expectRefusal(words) { changed in try changed.changeRun(Self.json) { $0["policy"] = policy } }
  }

  @Test(arguments: [
    ("F32", "[32, 64]", 8192), ("F32", "[33, 65]", 8580), ("I32", "[33, 64]", 8448), ("F32", "[2112]", 8448),
    ("F16", "[33, 64]", 4224),
  ])
  func `refuses tensors of another model`(element: String, shape: String, byteCount: Int) throws {
    let entry = #"{"vanilla/hidden_last":{"dtype":"\#(element)","shape":\#(shape),"data_offsets":[0,\#(byteCount)]}}"#
    let header = [UInt8](entry.utf8)
    let size = (0..<8).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) }
    try expectRefusal("'vanilla/hidden_last'") { changed in
      try changed.write(Self.tensors, size + header + [UInt8](repeating: 0, count: byteCount))
    }
  }

  @Test func `out-of-range numbers are departures`() throws {
    let changed = try ChangedModel()
    try changed.changeJSON(Self.json) { file in
      file["image_spans"] = [[Int.min, Int.max], []]
      file["sequence_length"] = Int.min
      file["prompt_ids"] = [Int]()
    }
    try changed.changeRun(Self.json) { run in
      run["kv_len_prefill"] = [Int.max]
      run["stages"] = [
        ["layer": Int.max, "tokens_before": -1, "tokens_after": 0, "images": [["start": -1, "count": -5, "kept": 9]]]
      ]
    }
    let departed = try changed.report(of: model).stages.filter { !$0.agrees }
    #expect(
      Set(departed.map(\.stage.kind)) == [.promptTokens, .imageSpans, .sequenceLength, .drop, .cacheLengthsAfterPrompt])
    #expect(departed.first?.place?.expected == "0 tokens")
  }

  @Test func `skips stages that the reference does not store`() throws {
    let changed = try ChangedModel()
    try changed.write(Self.tensors, [2, 0, 0, 0, 0, 0, 0, 0] + "{}".utf8)
    let report = try changed.report(of: model)
    #expect(report.agrees && !report.stages.contains { [.embedding, .layers, .lastLogits].contains($0.stage.kind) })
  }

  // MARK: - Folders

  @Test func `finds the reference next to the model or above it`() throws {
    let golden = try ReferenceFolder(besideModel: Goldens.path("models/tiny-llava-1.5"))
    #expect(golden.path + "/" == Goldens.path("") && golden.caseNames.contains("two_images"))
    let changed = try ChangedModel()
    #expect(throws: ReferenceError.self) { try ReferenceFolder(besideModel: changed.directory) }
    try FileManager.default.moveItem(atPath: changed.reference, toPath: changed.directory + "/reference")
    let own = try ReferenceFolder(besideModel: changed.directory)
    #expect(own.path == changed.directory + "/reference" && own.caseNames == ["text_only"])
    // A folder with the cases of a single model accepts any name.
    #expect(try ReferenceFolder(own.path, model: "another").model == "tiny-llava-1.5")
  }

  @Test func `reports the searched folders and how to create a reference`() throws {
    let folder = try TemporaryFolder()
    let error = #expect(throws: ReferenceError.self) { try ReferenceFolder(besideModel: folder.path) }
    let text = error?.description ?? ""
    #expect(text.contains(folder.path + "/reference") && text.contains("make_reference.py"), "\(text)")
    // A folder with the cases of several models accepts only their names.
    #expect(throws: ReferenceError.self) { try ReferenceFolder(Goldens.path(""), model: "another") }
  }
}
