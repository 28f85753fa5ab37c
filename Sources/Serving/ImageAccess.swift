import Foundation
import ImageProcessing
package import PDrop
import Storage

/// The images that requests may refer to: data in the request, files below one folder, and addresses that have been
/// fetched.
package struct ImageAccess: Sendable {
  /// The folder of `file://` URLs with all links resolved; `nil` to refuse them.
  private let mediaFolder: String?
  /// Whether images are fetched from a network.
  package let allowsRemote: Bool
  /// Maximum bytes of the images of a request together.
  package let byteLimit: Int
  /// Whether references are not read, as only their places in the prompt matter.
  private var readsNothing = false

  /// The same access for a request whose images are not needed.
  var withoutReading: ImageAccess {
    var access = self
    access.readsNothing = true
    return access
  }

  /// - Parameters:
  ///   - mediaPath: The folder of `file://` URLs.
  ///   - allowsRemote: Whether the caller fetches images from a network.
  ///   - byteLimit: Maximum bytes of the images of a request together.
  /// - Throws: `MediaPathError` if there is no such folder.
  package init(
    mediaPath: String? = nil, allowsRemote: Bool = false, byteLimit: Int = 64 << 20
  ) throws(MediaPathError) {
    (self.allowsRemote, self.byteLimit) = (allowsRemote, byteLimit)
    guard let mediaPath else {
      mediaFolder = nil
      return
    }
    guard let resolved = Self.resolved(mediaPath),
      (try? URL(filePath: resolved).resourceValues(forKeys: [.isDirectoryKey]))?.isDirectory == true
    else { throw MediaPathError(path: mediaPath) }
    mediaFolder = resolved.hasSuffix("/") ? resolved : resolved + "/"
  }

  /// Whether a reference is to an image on a network.
  package static func isRemote(_ reference: String) -> Bool {
    let start = reference.prefix(8).lowercased()
    return start.hasPrefix("http://") || start.hasPrefix("https://")
  }

  /// The image of a reference.
  ///
  /// - Parameters:
  ///   - number: The number of the image in its request, from 1, for error messages.
  ///   - fetched: The bytes of images on a network.
  func image(
    _ reference: String, number: Int, fetched: [String: [UInt8]]
  ) throws(ImageReferenceError) -> Request.Image {
    if readsNothing { return .encoded([], name: "image") }
    if Self.isRemote(reference) {
      guard let bytes = fetched[reference] else {
        throw .refused(
          reference: reference,
          reason: "images are not fetched from a network (--allow-remote-images); send a data URL")
      }
      return .encoded(bytes, name: reference.count > 200 ? String(reference.prefix(200)) + "…" : reference)
    }
    if reference.prefix(5).lowercased() == "file:" { return try file(reference) }
    do {
      if case .encoded(let bytes, let name) = try Request.Image(reference: reference) {
        return .encoded(bytes, name: "image \(number) (\(name))")
      }
    } catch {
      if case .malformedData = error { throw error }
    }
    throw .refused(
      reference: reference, reason: "expected a data URL such as data:image/png;base64,…, or a file:// URL")
  }

  /// The bytes of a `file:` URL, whose absolute path stays unknown to the client.
  private func file(_ reference: String) throws(ImageReferenceError) -> Request.Image {
    let path = try path(reference)
    do { return .encoded(try ImageDecoder().bytes(ofFile: path), name: reference) } catch {
      throw .refused(reference: reference, reason: error.problem.replacing(path + ": ", with: ""))
    }
  }

  /// The path of a `file:` URL, which is below the media folder with all links resolved.
  private func path(_ reference: String) throws(ImageReferenceError) -> String {
    guard let mediaFolder else {
      throw .refused(
        reference: reference, reason: "files are not read, as the server was started without --media-path")
    }
    var rest = reference.dropFirst("file:".count)
    if rest.hasPrefix("//") { rest = rest.dropFirst(2) }
    guard let path = String(rest).removingPercentEncoding, !path.isEmpty, !path.utf8.contains(0) else {
      throw .refused(reference: reference, reason: "expected a path after file://")
    }
    // Relative paths, as in llama.cpp, are those below the folder.
    guard let resolved = Self.resolved(path.hasPrefix("/") ? path : mediaFolder + path), resolved.hasPrefix(mediaFolder)
    else {
      // The same text for a file that is elsewhere and one that does not exist, so that a client cannot tell which.
      throw .refused(reference: reference, reason: "there is no such file below --media-path")
    }
    return resolved
  }

  /// The path without links and dots; `nil` if there is nothing there.
  private static func resolved(_ path: String) -> String? {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    return URL(filePath: path).resolvingSymlinksInPath().standardizedFileURL.path(percentEncoded: false)
  }
}

/// A media folder that does not exist.
package struct MediaPathError: UserFacingError, Equatable {
  let path: String

  package var category: ErrorCategory { .resource }
  package var problem: String { "--media-path \(path.debugDescription): no such folder" }
}
