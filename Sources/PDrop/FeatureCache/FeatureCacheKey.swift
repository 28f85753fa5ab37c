internal import Foundation
internal import Kernels
internal import LLaVA
internal import ModelFormats

extension FeatureCache.Model {
  /// - Parameters:
  ///   - files: The model's directory.
  ///   - llava: The model from it.
  ///   - preprocessor: What prepares its pictures.
  ///   - precision: What its tower multiplies in.
  init(
    _ files: ModelDirectory, _ llava: LLaVAModel, _ preprocessor: any ImagePreprocessor, _ precision: ModelPrecision
  ) {
    let processor = Processor.current
    let settings = [
      "weights and settings \(files.contentKey)",
      "program \(Self.program)",
      "pictures \(preprocessor.mode.rawValue)",
      "arithmetic \(precision.arithmetic.vision.rawValue)",
      // What multiplies decides the last bits.
      "OpenBLAS \(OpenBLAS.version) \(OpenBLAS.coreName)",
      "oneDNN \(processor.oneDNN?.version ?? "none")",
      "instructions \(processor.instructions)",
    ]
    key = SharedBytes.checksum(of: settings.joined(separator: "\n"))
    columns = llava.configuration.text.hiddenSize
    tokenCounts = llava.visualTokenCounts
  }

  /// The checksum of the program, which is what decodes, prepares and encodes: one that was built from other sources, or for
  /// another processor, may come to other bits. It takes some milliseconds.
  private static let program: String = {
    guard let path = Bundle.main.executablePath, let program = try? SharedBytes(mapping: path) else { return "unknown" }
    return String(program.checksum, radix: 16)
  }()
}
