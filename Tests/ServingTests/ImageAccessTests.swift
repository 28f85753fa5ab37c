import Foundation
import PDrop
import Storage
import TestSupport
import Testing

@testable import Serving

@Suite final class ImageAccessTests {
  private let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    try folder.write("media/a b.png", [1])
    try folder.write("media/sub/c.png", [1])
    try folder.write("media-other/d.png", [1])
    try folder.write("secret.png", [1])
    let files = FileManager.default
    try files.createSymbolicLink(atPath: folder.path("media/out.png"), withDestinationPath: folder.path("secret.png"))
    try files.createSymbolicLink(atPath: folder.path("media/in.png"), withDestinationPath: "sub/c.png")
    try files.createSymbolicLink(atPath: folder.path("media/up"), withDestinationPath: "..")
  }

  @Test(arguments: ["sub/c.png", "a%20b.png", "in.png", "sub/../a%20b.png", "./sub//c.png"])
  func `files below the media folder are read`(name: String) throws {
    let access = try ImageAccess(mediaPath: folder.path("media"))
    for reference in ["file://" + name, "file:" + name, "FILE://" + folder.path("media") + "/" + name] {
      guard case .encoded(let bytes, _) = try access.image(reference, number: 1, fetched: [:]) else {
        Issue.record("\(reference) has no bytes")
        continue
      }
      #expect(bytes == [1])
    }
  }

  @Test(
    arguments: [
      "../secret.png", "%2e%2e/secret.png", "out.png", "up/secret.png", "sub/../../secret.png", "../media-other/d.png",
      "nothing.png", "", "a%00b",
    ])
  func `nothing outside of the media folder is read`(name: String) throws {
    let access = try ImageAccess(mediaPath: folder.path("media"))
    #expect(throws: ImageReferenceError.self) { try access.image("file://" + name, number: 1, fetched: [:]) }
  }

  @Test func `a file elsewhere and one that does not exist are refused with the same words`() throws {
    let access = try ImageAccess(mediaPath: folder.path("media"))
    func reason(_ path: String) -> String {
      do {
        _ = try access.image("file://" + path, number: 1, fetched: [:])
        return ""
      } catch { return "\(error)".replacing(#/^".*": /#, with: "") }
    }
    #expect(reason(folder.path("secret.png")) == reason(folder.path("nothing.png")))
  }

  @Test(arguments: [
    "file:///etc/passwd", "file://a.png", "/etc/passwd", "a.png", "http://example.org/a.png", "ftp://x/y",
  ])
  func `without a media folder only data is read`(reference: String) throws {
    let access = try ImageAccess()
    #expect(throws: ImageReferenceError.self) { try access.image(reference, number: 1, fetched: [:]) }
    guard case .encoded(let bytes, let name) = try access.image("data:image/png;base64,AQID", number: 2, fetched: [:])
    else {
      Issue.record("expected the bytes of the data URL")
      return
    }
    #expect(bytes == [1, 2, 3] && name == "image 2 (image/png data)")
  }

  @Test func `the images of a request have a limit together`() throws {
    func read(limit: Int) throws -> Int {
      let part = #"{"type": "image_url", "image_url": "file://in.png"}"#
      let body = #"{"messages": [{"role": "user", "content": [\#(part), \#(part), \#(part)]}]}"#
      let access = try ImageAccess(mediaPath: folder.path("media"), byteLimit: limit)
      return try ChatRequest(
        try JSONParser.parse(Array(body.utf8)), like: Request(question: ""), access, layerCount: 32
      ).imageByteCount
    }
    #expect(try read(limit: 3) == 3)
    let error = try #require(throws: APIError.self) { try read(limit: 2) }
    #expect(error.status == 400 && error.message.contains("together") && error.parameter == "messages")
  }

  @Test func `a media folder that is a file is refused`() throws {
    #expect(throws: MediaPathError.self) { try ImageAccess(mediaPath: folder.path("secret.png")) }
    #expect(throws: MediaPathError.self) { try ImageAccess(mediaPath: folder.path("nothing")) }
  }
}
