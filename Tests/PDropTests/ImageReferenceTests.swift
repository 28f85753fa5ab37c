import Foundation
import PDrop
import Storage
import TestSupport
import Testing

@Suite struct ImageReferenceTests {
  private func bytes(_ reference: String) throws -> [UInt8]? {
    guard case .encoded(let bytes, _) = try Request.Image(reference: reference) else { return nil }
    return bytes
  }

  private func path(_ reference: String, folder: String? = nil) throws -> String? {
    guard case .file(let path) = try Request.Image(reference: reference, folder: folder) else { return nil }
    return path
  }

  @Test(arguments: [
    "http://a/b.png", "HTTPS://a/b.png", "ftp://a", "s3://bucket/a.png", "git+ssh://a/b", "file://server/a.png",
    "data:image/png,abc", "data:;base64", "data:x;base64,!!!!=", "data:image/png;base64,A", "data:base64,AAEC",
    "data:image/png;base64,%GG", "data:image/png;base64,AA=EC", "data:",
  ])
  func `refuses remote URLs and malformed data with a one-line error`(reference: String) {
    let error = #expect(throws: ImageReferenceError.self) { try Request.Image(reference: reference) }
    #expect(error?.description.contains("\n") == false)
  }

  @Test(arguments: [
    ("a b.png", "a b.png"), ("/x/y.jpg", "/x/y.jpg"), ("file:///a%20b.png", "/a b.png"),
    ("FILE:///a b.png", "/a b.png"),
    ("file://localhost/a.png", "/a.png"), ("file:/a.png", "/a.png"), ("a:b.png", "a:b.png"), ("/9j/a.jpg", "/9j/a.jpg"),
    ("iVBORw0KGgo", "iVBORw0KGgo"),
  ])
  func `accepts paths and file URLs`(reference: String, expected: String) throws {
    #expect(try path(reference) == expected)
  }

  @Test func `resolves relative paths in a folder`() throws {
    #expect(try path("a.png", folder: "b") == "b/a.png")
    #expect(try path("/a.png", folder: "b") == "/a.png")
    #expect(try path("file:///a.png", folder: "b") == "/a.png")
  }

  @Test(arguments: [
    "data:image/png;base64,+/8AAQI=", "data:;base64,+/8AAQI=", "DATA:Image/PNG;BASE64,+/8AAQI=",
    "data:image/png; base64,+/8AAQI=", "data:image/png;name=a.png;base64,+/8AAQI=",
    "data:image/png;base64,+/8A\nAQI=\r\n", "data:image/png;base64, +/8A AQI=", "data:image/png;base64,%2B%2F8AAQI%3D",
    "data:image/png;base64,%2b%2f8AA%0AQI%3d", "data:image/png;base64,-_8AAQI", "data:image/png;base64,+/8AAQI",
  ])
  func `reads data URLs as clients write them`(reference: String) throws {
    #expect(try bytes(reference) == [0xFB, 0xFF, 0, 1, 2])
  }

  @Test(arguments: ["images/gray.jpg", "images/rgb.png", "images/lossless.webp"])
  func `accepts bare base64 of an image, unless a file has that name`(name: String) throws {
    let data = try Data(contentsOf: Fixtures.url(name))
    #expect(try bytes(data.base64EncodedString()) == [UInt8](data))
    #expect(try bytes(data.base64EncodedString(options: .lineLength76Characters)) == [UInt8](data))

    // A file may have such a name, but only in the given folder.
    let folder = try TemporaryFolder()
    let text = data.prefix(72).base64EncodedString().replacing("/", with: "_")
    #expect(try path("x" + text, folder: folder.path) == folder.path("x" + text))
    guard !name.hasSuffix("jpg") else { return }
    try folder.write(text, "x")
    #expect(try path(text, folder: folder.path) == folder.path(text))
    #expect(try bytes(text) == [UInt8](data.prefix(72)))
  }

  @Test func `a text too long for a path is malformed data`() throws {
    let text = String(repeating: "R0lGOD", count: 1000)
    let error = #expect(throws: ImageReferenceError.malformedData(start: String(text.prefix(40)))) {
      try Request.Image(reference: text)
    }
    #expect((error?.description.count ?? .max) < 200)
  }
}
