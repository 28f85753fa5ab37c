import PDrop
import Storage

/// The text of an error on the command line: the problem, and its remedies as options.
package func errorText(_ error: any Error) -> String {
  guard let error = error as? any UserFacingError else { return "\(error)" }
  return error.message(spelling: \.option)
}

extension Remedy {
  /// The remedy in options of the programs.
  package var option: String {
    switch self {
    case .visionTower: "give its directory (config.json and weights) with --vision-tower"
    case .omitVisionTower(let path): "leave out --vision-tower \(path)"
    case .mmproj: "name the vision encoder's file with --mmproj"
    case .omitMMProj(let path): "leave out --mmproj \(path)"
    case .imageMode(let modes): "use --image-mode \(Self.list(modes))"
    case .addImage: "add --image"
    case .removePlaceholder: "remove <image>"
    case .shortenPrompt: "shorten it"
    case .raiseContextLength: "raise --ctx-size"
    case .chatTemplate: "name one with --chat-template"
    case .omitSystemPrompt: "leave out --system"
    case .omitRendered: "leave out --raw"
    case .dropLayers(let layers, method: "fastv"): "--fastv-k \(Self.list(layers.map(String.init))) can do it"
    case .dropLayers(let layers, _): "--layer-list \(layers.map(String.init).joined(separator: ",")) can do it"
    case .memoryLimit(let gibibytes): "it fits with --ram \(gibibytes)GiB"
    case .maxTokens(let count): "with -n \(count)"
    case .raiseMaxTokens(let count): "set -n to \(count) or more"
    case .cacheType(let type): "with --kv \(type)"
    case .pyramidDrop(nil): "with --policy pyramiddrop"
    case .pyramidDrop(let lambda?): "with --policy pyramiddrop --lambda \(lambda)"
    case .resume: "add --resume to continue after them"
    case .overwrite: "--overwrite to replace them"
    case .freeSpaceAndResume: "free space and run again with --resume"
    case .otherOutput: "give another file with --output"
    case .makeReference: "make some with Models/make_reference.py"
    case .referenceFolder: "name their folder with --reference"
    }
  }
}
