import Foundation
import ModelFormats
import TestSupport
import Testing

@Suite struct PreprocessorConfigurationTests {
  private func decoded(_ json: String) throws -> PreprocessorConfiguration {
    let folder = try TemporaryFolder()
    return try PreprocessorConfiguration(JSONFile.section(at: folder.write("preprocessor_config.json", json)))
  }

  @Test(arguments: ["tiny-llava-1.5", "tiny-llava-1.5-bf16"])
  func `reads LLaVA's defaults from a checkpoint's file`(model: String) throws {
    let file = try JSONFile.section(at: Goldens.path("models/\(model)/preprocessor_config.json"))
    var expected = PreprocessorConfiguration()
    expected.imageProcessorType = "CLIPImageProcessor"
    #expect(try PreprocessorConfiguration(file) == expected)
  }

  /// Version 5 of the reference library saves the processor and its parts in one file.
  @Test func `reads the section of processor_config.json without a file of its own`() throws {
    let folder = try TemporaryFolder()
    for name in ["config.json", "model.safetensors"] {
      try FileManager.default.createSymbolicLink(
        at: folder.url.appending(path: name), withDestinationURL: Goldens.url("models/tiny-llava-1.5/\(name)"))
    }
    func found() throws -> PreprocessorConfiguration? { try ModelDirectory(folder.path).preprocessor() }
    #expect(try found() == nil)
    try folder.write("processor_config.json", #"{"patch_size": 14}"#)
    #expect(try found() == nil)
    try folder.write("processor_config.json", #"{"image_processor": {"image_mean": [0.5, 0.5, 0.5]}}"#)
    #expect(try found()?.mean == [0.5, 0.5, 0.5])
    try folder.write("preprocessor_config.json", "{}")
    #expect(try found() == PreprocessorConfiguration())
  }

  @Test func `has LLaVA's values for missing keys`() throws {
    #expect(try decoded("{}") == PreprocessorConfiguration())
    #expect(try decoded(#"{"size": null, "resample": null, "unheard_of": [1]}"#) == PreprocessorConfiguration())
  }

  @Test(arguments: [
    (#"{"size": 224}"#, PreprocessorConfiguration.ResizeTarget.shortestEdge(224)),
    (#"{"size": {"shortest_edge": 30}}"#, .shortestEdge(30)),
    (#"{"size": {"height": 20, "width": 30}}"#, .exact(.init(height: 20, width: 30))),
    (#"{"size": {"width": 30}}"#, .exact(.init(height: 30, width: 30))),
  ])
  func `reads every notation of size`(json: String, target: PreprocessorConfiguration.ResizeTarget) throws {
    #expect(try decoded(json).resizesTo == target)
  }

  @Test(arguments: [
    (#"{"crop_size": 224}"#, 224, 224), (#"{"crop_size": {"height": 20}}"#, 20, 20),
    (#"{"crop_size": {"width": 20}}"#, 20, 20), (#"{"crop_size": {"height": 20, "width": 30}}"#, 20, 30),
  ])
  func `reads every notation of crop_size`(json: String, height: Int, width: Int) throws {
    #expect(try decoded(json).cropSize == .init(height: height, width: width))
  }

  @Test(arguments: ["[[336, 672], [672, 336]]", #""[[336, 672], [672, 336]]""#, #""[(336, 672), (672, 336)]""#])
  func `reads grid pinpoints as a list and as a string`(list: String) throws {
    let pinpoints = try decoded(#"{"image_grid_pinpoints": \#(list)}"#).gridPinpoints
    #expect(pinpoints == [.init(height: 336, width: 672), .init(height: 672, width: 336)])
  }

  @Test func `reads do_pad as padding to a square in LLaVA's own processor`() throws {
    #expect(try decoded(#"{"do_pad": true}"#).padsToSquare)
    #expect(try decoded(#"{"do_pad": true, "image_processor_type": "LlavaImageProcessor"}"#).padsToSquare)
    for type in ["LlavaNextImageProcessor", "CLIPImageProcessor", "CLIPImageProcessorFast", "SiglipImageProcessor"] {
      #expect(try !decoded(#"{"do_pad": true, "image_processor_type": "\#(type)"}"#).padsToSquare)
    }
  }

  @Test(arguments: [
    (#"{"size": 0}"#, "size"), (#"{"size": 4097}"#, "size"), (#"{"size": {}}"#, "size"),
    (#"{"size": {"height": -3, "width": 4}}"#, "size.height"),
    (#"{"crop_size": {"height": 9999}}"#, "crop_size.height"), (#"{"size": "big"}"#, "size"),
    (#"{"do_resize": "yes"}"#, "do_resize"), (#"{"image_mean": 0.5}"#, "image_mean"),
    (#"{"rescale_factor": 1e999}"#, "rescale_factor"), (#"{"rescale_factor": NaN}"#, "rescale_factor"),
    (#"{"size": 1e300}"#, "size"), (#"{"size": 3.5}"#, "size"),
    (#"{"image_grid_pinpoints": 5}"#, "image_grid_pinpoints"),
    (#"{"image_mean": [0.5, 0.5]}"#, "image_mean"), (#"{"image_mean": [0.5, 1e30, 0.5]}"#, "image_mean"),
    (#"{"image_std": [1, 0, 1]}"#, "image_std"), (#"{"image_std": [1, -1, 1]}"#, "image_std"),
    (#"{"rescale_factor": 0}"#, "rescale_factor"), (#"{"rescale_factor": 1e9}"#, "rescale_factor"),
    (#"{"resample": 2}"#, "resample"), (#"{"image_grid_pinpoints": [[336]]}"#, "image_grid_pinpoints"),
    (#"{"image_grid_pinpoints": [[336, 0]]}"#, "image_grid_pinpoints"),
    (#"{"image_grid_pinpoints": "(1x1),...,(9x9)"}"#, "image_grid_pinpoints"),
  ])
  func `refuses a value and names its key`(json: String, key: String) {
    let error = #expect(throws: CheckpointError.self) { try decoded(json) }
    guard case .badValue(_, key, _, _) = error else {
      Issue.record("\(json): \(String(describing: error))")
      return
    }
  }

  @Test(arguments: [
    "[]", "3", "{",
  ])
  func `refuses a malformed file`(json: String) {
    let error = #expect(throws: CheckpointError.self) { try decoded(json) }
    guard case .malformed = error else {
      Issue.record("\(json): \(String(describing: error))")
      return
    }
  }
}
