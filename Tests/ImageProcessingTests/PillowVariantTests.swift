import Foundation
import ImageProcessing
import TestSupport
import Testing

/// Small files of all kinds that Pillow reads or refuses, made by Tests/Parity/images.py.
@Suite struct PillowVariantTests {
  struct Variant: Decodable, Sendable, CustomTestStringConvertible {
    /// The upright image.
    struct Upright: Decodable, Sendable {
      var width: Int
      var height: Int
      var sha256: String

      init(from decoder: any Decoder) throws {
        var container = try decoder.unkeyedContainer()
        width = try container.decode(Int.self)
        height = try container.decode(Int.self)
        sha256 = try container.decode(String.self)
      }
    }

    var name: String
    var data: Data
    /// `nil` for a file that Pillow refuses.
    var result: Upright?
    var testDescription: String { name }
  }

  static let variants =
    (try? JSONDecoder().decode([Variant].self, from: Data(contentsOf: Fixtures.url("images/variants.json")))) ?? []

  @Test func `has files of all kinds`() {
    #expect(Self.variants.count > 200)
    #expect(Self.variants.count { $0.result == nil } > 30)
  }

  @Test(arguments: variants)
  func `reads what Pillow reads, upright, and refuses what it refuses`(variant: Variant) throws {
    var decoder = ImageDecoder()
    decoder.appliesOrientation = true
    guard let expected = variant.result else {
      do throws(ImageError) {
        let image = try decoder.decode(variant.data, name: variant.name)
        Issue.record("read as \(image.width) x \(image.height)")
      } catch {
        switch error {
        case .damaged(variant.name, _, _), .unknownFormat(variant.name, _): break
        default: throw error
        }
      }
      return
    }
    let image = try decoder.decode(variant.data)
    #expect(image.width == expected.width && image.height == expected.height)
    #expect(sha256(image.pixels) == expected.sha256)
  }
}
