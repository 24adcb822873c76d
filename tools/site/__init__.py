"""What is done with the built pages: the PDF, their weight, Lighthouse's report, a server."""
