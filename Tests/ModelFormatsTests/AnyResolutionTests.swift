import Foundation
import ModelFormats
import Storage
import TestSupport
import Testing

@Suite struct AnyResolutionTests {
  /// The configuration of a `config.json` with this text.
  private func configuration(_ json: String) throws -> LLaVAConfiguration {
    let folder = FileManager.default.temporaryDirectory.appending(path: "config-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try Data(json.utf8).write(to: folder.appending(path: "config.json"))
    return try LLaVAConfiguration(directory: folder.path(percentEncoded: false))
  }

  private static let released = AnyResolution(
    pinpoints: [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)], viewSize: 336, patchesPerSide: 24,
    sizeRule: .huggingFace)

  @Test(arguments: ["tiny-llava-next-vicuna", "tiny-llava-next-vicuna-newnames", "tiny-llava-next-mistral"])
  func `reads a checkpoint's canvases`(model: String) throws {
    let configuration = try LLaVAConfiguration(directory: Goldens.path("models/\(model)"))
    #expect(configuration.anyResolution == Self.released)
    #expect(configuration.imageTokenID == 1200)
  }

  @Test func `LLaVA-1.5 has no canvases`() throws {
    #expect(try LLaVAConfiguration(directory: Goldens.path("models/tiny-llava-1.5")).anyResolution == nil)
  }

  @Test(arguments: [
    "", #", "image_grid_pinpoints": null"#,
    #", "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]"#,
    #", "image_grid_pinpoints": "[(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]""#,
    #", "use_image_newline_parameter": true"#,
  ])
  func `reads the released canvases from a list, a string or the default`(members: String) throws {
    let json = #"{"model_type": "llava_next", "image_token_index": 9\#(members)}"#
    #expect(try configuration(json).anyResolution == Self.released)
  }

  @Test func `reads pairs as height and width, or as width and height, by the size rule`() {
    func canvas(_ sizeRule: AnyResolution.SizeRule) -> PixelSize {
      AnyResolution(pinpoints: [(336, 672)], viewSize: 336, patchesPerSide: 24, sizeRule: sizeRule).canvases[0]
    }
    #expect(canvas(.huggingFace) == PixelSize(height: 336, width: 672))
    #expect(canvas(.original) == PixelSize(height: 672, width: 336))
  }

  @Test(arguments: [
    (#""image_grid_pinpoints": []"#, "image_grid_pinpoints"),
    (#""image_grid_pinpoints": [[336]]"#, "image_grid_pinpoints"),
    (#""image_grid_pinpoints": [[336, 0]]"#, "image_grid_pinpoints"),
    (#""image_grid_pinpoints": [[336, -336]]"#, "image_grid_pinpoints"),
    (#""image_grid_pinpoints": [[336, 500]]"#, "image_grid_pinpoints"),
    (#""image_grid_pinpoints": [[336, 336000]]"#, "image_grid_pinpoints"),
    (#""image_grid_pinpoints": "(2x1),...,(1x6)""#, "image_grid_pinpoints"),
    (#""image_grid_pinpoints": "(1x1),(0x0)""#, "image_grid_pinpoints"),
    (#""image_grid_pinpoints": "(0x1)""#, "image_grid_pinpoints"),
    (#""image_grid_pinpoints": "(1x1),(1x20)""#, "image_grid_pinpoints"),
    (
      #""image_grid_pinpoints": [\#(Array(repeating: "[336, 672]", count: 65).joined(separator: ","))]"#,
      "image_grid_pinpoints"
    ),
    (#""use_image_newline_parameter": false"#, "use_image_newline_parameter"),
    (#""vision_feature_select_strategy": "full""#, "vision_feature_select_strategy"),
  ])
  func `refuses a value and names its key`(member: String, key: String) {
    let error = #expect(throws: CheckpointError.self) {
      try configuration(#"{"model_type": "llava_next", "image_token_index": 9, \#(member)}"#)
    }
    guard case .badValue(_, key, _, _) = error else {
      Issue.record("\(member): \(String(describing: error))")
      return
    }
  }

  @Test func `names the key of a value with another type`() {
    let error = #expect(throws: CheckpointError.self) {
      try configuration(#"{"model_type": "llava_next", "image_token_index": 9, "image_grid_pinpoints": 5}"#)
    }
    #expect(error?.description.contains("image_grid_pinpoints") == true)
  }
}
