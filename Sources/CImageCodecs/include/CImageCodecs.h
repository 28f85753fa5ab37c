#pragma once

#include <stddef.h>

// JPEG, PNG and WebP decoders behind one interface of two steps, so that the caller can judge the size before it
// allocates: read the header, then decode into a buffer of exactly width * height * 3 bytes (RGB, rows from the top).
// Pictures are written as PNG.
//
// Every function returns 0 on success. Otherwise it returns -1 and writes a NUL-terminated text of at most
// message_size bytes; what the buffer holds is then unspecified. No function keeps a pointer, prints, or jumps over
// its caller: the setjmp and longjmp of libpng and libjpeg stay on this side.

int pdrop_jpeg_read_header(const unsigned char *bytes, size_t count, int *width, int *height, char *message,
                           size_t message_size);
int pdrop_jpeg_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                      char *message, size_t message_size);

int pdrop_png_read_header(const unsigned char *bytes, size_t count, int *width, int *height, char *message,
                          size_t message_size);
int pdrop_png_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                     char *message, size_t message_size);

// Sets *animated to 1 for an animation, which pdrop_webp_decode refuses.
int pdrop_webp_read_header(const unsigned char *bytes, size_t count, int *width, int *height, int *animated,
                           char *message, size_t message_size);
int pdrop_webp_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                      char *message, size_t message_size);

// Writes a picture of width * height * 3 bytes as a PNG file, with a description in Latin-1 text if it is not empty.
// *count is set to the bytes written; a capacity that is too small is an error.
int pdrop_png_encode(const unsigned char *rgb, int width, int height, const char *description, unsigned char *target,
                     size_t capacity, size_t *count, char *message, size_t message_size);
