#if canImport(FoundationEssentials)
  internal import FoundationEssentials
#else
  internal import Foundation
#endif

/// The pairs that `image_grid_pinpoints` lists, or a string that holds such a list with square or round brackets.
struct GridPinpoints: Decodable {
  static let key = "image_grid_pinpoints"

  /// As they stand in the file; Hugging Face means height and width, LLaVA width and height.
  var pairs: [(Int, Int)]

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let lists: [[Int]]
    if let text = try? container.decode(String.self) {
      let list = text.map { $0 == "(" ? "[" : $0 == ")" ? "]" : String($0) }.joined()
      guard let decoded = try? JSONDecoder().decode([[Int]].self, from: Data(list.utf8)) else {
        throw PreprocessorConfigurationError.invalidValue(
          key: Self.key, expected: "a list of pairs of numbers", found: "\"\(text.prefix(60))\"")
      }
      lists = decoded
    } else {
      lists = try container.decode([[Int]].self)
    }
    pairs = try lists.map { list in
      guard list.count == 2 else {
        throw PreprocessorConfigurationError.invalidValue(
          key: Self.key, expected: "pairs of numbers", found: "\(list.prefix(8))")
      }
      return (try checkedSide(list[0], key: Self.key), try checkedSide(list[1], key: Self.key))
    }
  }
}

/// The largest side in pixels that a file may ask for.
private let largestSide = 4096

/// A side in pixels that is neither absurd nor nothing.
func checkedSide(_ side: Int, key: String) throws(PreprocessorConfigurationError) -> Int {
  guard (1...largestSide).contains(side) else {
    throw .invalidValue(key: key, expected: "from 1 to \(largestSide)", found: "\(side)")
  }
  return side
}
