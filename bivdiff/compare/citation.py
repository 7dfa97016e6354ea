"""The paper to cite, and where it is."""

from __future__ import annotations

PAPER_ADDRESS = "https://arxiv.org/abs/2312.02813"
AUTHORS_CODE = "https://github.com/MCG-NJU/BIVDiff"
"""The authors' own program, of which nothing is in this one."""

BIBTEX = """@inproceedings{shi2024bivdiff,
  title     = {{BIVDiff}: A Training-Free Framework for General-Purpose Video Synthesis via Bridging Image and Video
               Diffusion Models},
  author    = {Shi, Fengyuan and Gu, Jiaxi and Xu, Hang and Xu, Songcen and Zhang, Wei and Wang, Limin},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2024}
}
"""
