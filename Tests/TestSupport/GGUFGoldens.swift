public import Foundation
public import Testing

/// The golden pairs of GGUF files with reference results (see the README there).
public enum GGUFGoldens {
  /// The folder with all pairs if it lies beside the repository, otherwise the folder of those in the repository.
  public static let folder: URL = {
    let all = Goldens.url("../../../shared/goldens-gguf").standardizedFileURL
    return FileManager.default.fileExists(atPath: all.path) ? all : Goldens.url("gguf")
  }()

  /// The path of a file or folder among them.
  public static func path(_ path: String) -> String { folder.appending(path: path).path(percentEncoded: false) }

  /// Rows of the features of an image.
  public struct Features: Decodable, Sendable, CustomTestStringConvertible {
    public var model: String
    public var mmproj: String
    public var image: String
    /// The shape of all features, `[V, D]`.
    public var shape: [Int]
    /// Their root mean square.
    public var rms: Double
    /// The file with some of the rows, and their indices.
    public var tensors: String

    public var testDescription: String { tensors }
  }

  /// The stored features.
  public static let features: [Features] =
    (try? JSONDecoder().decode([Features].self, from: Data(contentsOf: folder.appending(path: "features.json")))) ?? []
}

/// A case of a golden pair of GGUF files.
public struct GGUFGoldenCase: Sendable, CustomTestStringConvertible {
  /// The folder of the pair, such as `vicuna-64`.
  public let folder: String
  public let name: String
  /// The path of the language model's file, and that of the vision encoder's.
  public let model: String
  public let mmproj: String
  public let golden: GoldenCase

  private struct Pair: Decodable {
    var model: String
    var mmproj: String
  }

  /// Loads a case.
  public init(_ folder: String, _ name: String) throws {
    let data = try Data(contentsOf: GGUFGoldens.folder.appending(path: "cases/\(folder)/\(name).json"))
    let pair = try JSONDecoder().decode(Pair.self, from: data)
    (self.folder, self.name) = (folder, name)
    (model, mmproj) = (GGUFGoldens.path(pair.model), GGUFGoldens.path(pair.mmproj))
    golden = try JSONDecoder().decode(GoldenCase.self, from: data)
  }

  public var testDescription: String { "\(folder)/\(name)" }

  /// All cases; debug builds, whose numeric loops are slow, run small ones.
  public static let all: [GGUFGoldenCase] = {
    let manager = FileManager.default
    let folders = (try? manager.contentsOfDirectory(atPath: GGUFGoldens.path("cases"))) ?? []
    return folders.sorted().flatMap { folder in
      ((try? manager.contentsOfDirectory(atPath: GGUFGoldens.path("cases/\(folder)"))) ?? []).sorted()
        .filter { $0.hasSuffix(".json") }.map { String($0.dropLast(5)) }
        .filter { isOptimized || $0.hasSuffix("text_only") || $0.hasSuffix("tiny") }
        .compactMap { try? GGUFGoldenCase(folder, $0) }
    }
  }()
}
