import BatchInference
import Foundation
import ImageProcessing
import PDrop
import Storage

/// Kept-token maps as JSON, with the pixels that the model sees as PNG.
enum KeptMapJSON {
  /// The map of each image of a prompt; `null` for an image whose pixels are not known, as its features came from a
  /// cache.
  static func maps(_ prefill: FinishedPrefill?, _ model: VisionLanguageModel) -> [JSONValue] {
    guard let prefill else { return [] }
    return model.keptMaps(prefill.request, selected: prefill.selected, prefill.drops)
      .map { map in map.map(json) ?? .null }
  }

  private static func json(_ map: KeptMap) -> JSONValue {
    [
      "regions": .array(map.regions.map(json)),
      "places": .array(
        map.places.map { place in
          place.map { .array([.integer($0.region), .integer($0.row), .integer($0.column)]) } ?? .null
        }),
      "stages": .array(map.stages.map(json)),
    ]
  }

  private static func json(_ region: KeptMap.Region) -> JSONValue {
    let png = (try? ImageEncoder().png(region.image)) ?? []
    return [
      "name": .string(region.name), "rows": .integer(region.rows), "columns": .integer(region.columns),
      "patch_size": .integer(region.patchSize),
      "png": .string("data:image/png;base64," + Data(png).base64EncodedString()),
    ]
  }

  private static func json(_ stage: KeptMap.Stage) -> JSONValue {
    let kept = stage.tokens.indices.filter { stage.tokens[$0].isKept }
    return [
      "layer": .integer(stage.layer), "kept": .array(kept.map(JSONValue.integer)),
      "scores": .array(stage.tokens.map { token in token.score.map { .finite(Double($0)) } ?? .null }),
    ]
  }
}
