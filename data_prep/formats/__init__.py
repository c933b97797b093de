"""What lies on the disk: manifest, index, packed arrays, packed trees, pictures, COCO sets."""

__all__ = ["coco", "file_names", "image_index", "manifest", "packed", "packed_tree", "pictures"]
