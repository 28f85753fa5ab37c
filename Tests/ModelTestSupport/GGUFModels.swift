package import PDrop
package import TestSupport

extension GGUFGoldenCase {
  /// The loaded pair.
  package func load(_ precision: Precision, cacheIn folder: String? = nil) throws -> VisionLanguageModel {
    try VisionLanguageModel(gguf: model, mmproj: mmproj, precision, cacheIn: folder)
  }
}

extension VisionLanguageModel {
  /// A pair of GGUF files.
  package init(gguf model: String, mmproj: String, _ precision: Precision, cacheIn folder: String? = nil) throws {
    var options = Options()
    (options.mmproj, options.precision, options.weightsCache) = (mmproj, precision, folder)
    options.threads = 2
    try self.init(directory: model, options: options)
  }
}
